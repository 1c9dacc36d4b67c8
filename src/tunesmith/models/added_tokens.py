"""Tokens that a base was not published with, and the rows of the embedding that they need."""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from tunesmith.errors import RecipeError
from tunesmith.models.base import Base


@torch.no_grad()
def add_tokens(base: Base, texts: Sequence[str]) -> None:
    """Make tokens of these texts; their embeddings begin as the mean of what they were cut into.

    A base in which nothing was trained answers so as it did, nearly, where such a text is read.

    Args:
        base: Its tokenizer, model and `added` are changed.
        texts: None of them a token already.

    Raises:
        RecipeError: A text that is empty, given twice, or a token already.
    """
    known = base.tokenizer.get_vocab()
    for text in texts:
        if not text or text in known or list(texts).count(text) > 1:
            raise RecipeError(
                "adapter.added_tokens",
                got=repr(text),
                expected="texts that are no tokens of this base yet, each once",
            )
    if not texts:
        return
    pieces = [base.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    base.tokenizer.add_tokens(list(texts))
    ids = base.tokenizer.convert_tokens_to_ids(list(texts))
    grow_to(base.model, max(ids) + 1)
    for matrix in _matrices(base.model):
        for token, parts in zip(ids, pieces, strict=True):
            matrix[token] = matrix[parts].float().mean(0)
    base.added = tuple(ids)


def grow_to(model: PreTrainedModel, num_rows: int) -> None:
    """Give embedding and head so many rows, if they have fewer; new ones are 0."""
    weight = model.get_input_embeddings().weight
    rows, trained = weight.shape[0], weight.requires_grad
    if num_rows <= rows:
        return
    # Its own way to fill them draws from a normal distribution.
    model.resize_token_embeddings(num_rows, mean_resizing=False)
    with torch.no_grad():
        for matrix in _matrices(model):
            matrix[rows:] = 0.0
            matrix.requires_grad_(trained)


def _matrices(model: PreTrainedModel) -> list[nn.Parameter]:
    """Embedding and head; one where they share it."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return [embedding] if head is embedding else [embedding, head]
