"""The certificate: what lies on the disk answers as the model in memory does."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.export import stranger
from tunesmith.export.reload import answer
from tunesmith.models import fast

NUM_TOKENS = 16
"""Greedy tokens compared after each prompt."""
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.05}
"""Largest difference between logits. Both sides run the same code on the same numbers, so what is
measured is 0; the room is for another number of threads."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the comparison found."""

    ok: bool
    max_logit_difference: float
    tolerance: float
    equal_greedy_tokens: float
    """Share of the greedy tokens that are equal."""
    prompts: int


def certify(model: PreTrainedModel, folder: Path, prompts: list[list[int]]) -> Certificate:
    """Reload `folder` in a fresh process and compare its answers with those of `model`.

    Args:
        model: The trained model in memory; its fast paths are taken off for the comparison.
        folder: The artefact.
        prompts: Token ids of held-out prompts; at least one.

    Raises:
        RunError: The artefact does not load.
    """
    dtype = model.dtype
    with _plain(model):
        expected = answer(model, prompts, NUM_TOKENS)
    got = stranger.ask(folder, prompts, NUM_TOKENS, dtype, model.device)
    return compare(expected, got, TOLERANCES.get(dtype, TOLERANCES[torch.bfloat16]))


def compare(expected: dict[str, Tensor], got: dict[str, Tensor], tolerance: float) -> Certificate:
    """The certificate of two sets of answers to the same prompts."""
    difference = (expected["logits"] - got["logits"]).abs().max().item()
    equal = (expected["tokens"] == got["tokens"]).float().mean().item()
    return Certificate(
        ok=difference <= tolerance and equal == 1.0,
        max_logit_difference=difference,
        tolerance=tolerance,
        equal_greedy_tokens=equal,
        prompts=len(expected["tokens"]),
    )


@contextmanager
def _plain(model: PreTrainedModel) -> Iterator[None]:
    """The model on PEFT's and transformers' own paths for the time of the block."""
    was_training = model.training
    model.eval()
    fast.take_off(model)
    try:
        yield
    finally:
        fast.lay_over(model)
        model.train(was_training)
