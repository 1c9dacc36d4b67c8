"""Tokens that the base did not have, from the rows to the merged model."""

import pytest
import torch
from peft import PeftModel

from tests.adapters.conftest import attach, logits, move, small
from tunesmith.adapters import lora
from tunesmith.adapters.parts.reopening import reopen
from tunesmith.errors import RecipeError
from tunesmith.models.added_tokens import add_tokens
from tunesmith.models.base import Base
from tunesmith.testing.tiny import byte_tokenizer

TEXTS = ["<call>", "<result>"]


def _base(tied=True):
    model = small(vocab_size=259, tie_word_embeddings=tied).requires_grad_(False)
    return Base(None, model, byte_tokenizer(), frozenset())


def test_a_new_token_begins_as_the_mean_of_its_pieces():
    base = _base()
    before = base.model.get_input_embeddings().weight.detach().clone()
    add_tokens(base, TEXTS)
    assert base.added == (259, 260)
    assert base.tokenizer("a<call>b")["input_ids"] == [97, 259, 98]
    after = base.model.get_input_embeddings().weight
    assert after.shape[0] == 261
    assert not after.requires_grad
    assert torch.equal(after[:259], before)
    torch.testing.assert_close(after[259], before[list(b"<call>")].mean(0))
    assert base.model.get_output_embeddings().weight is after


@pytest.mark.parametrize("tied", [True, False])
def test_its_embedding_is_trained_saved_and_merged(tied, tmp_path):
    base = _base(tied)
    add_tokens(base, TEXTS)
    config = lora.Config(rank=2, targets=["q_proj"], added_tokens=TEXTS)
    attached = attach(config, base.model, added=base.added)
    ids = torch.tensor([[97, 259, 98, 260, 99]])
    # Two rows of 64 beside A (2, 64) and B (64, 2); head and embedding have their own if untied.
    assert attached.num_trained == 2 * 64 * (1 if tied else 2) + 2 * 64 * 2
    before = logits(attached.model, ids)
    move(attached)
    assert not torch.allclose(logits(attached.model, ids), before, atol=1e-3)
    lora.write(attached, tmp_path, "some/base")
    again = reopen(_base(tied).model, tmp_path)
    assert isinstance(again, PeftModel)
    assert torch.equal(logits(again, ids), logits(attached.model, ids))
    with attached.disabled():
        assert torch.equal(logits(attached.model, ids), before)
    merged = again.merge_and_unload()
    torch.testing.assert_close(
        logits(merged, ids), logits(attached.model, ids), rtol=1e-4, atol=1e-5
    )
    assert merged.get_input_embeddings().weight.shape[0] == 261


@pytest.mark.parametrize("texts", [["<|im_end|>"], [""], ["<a>", "<a>"]])
def test_texts_that_cannot_become_tokens_are_refused(texts):
    with pytest.raises(RecipeError, match="adapter.added_tokens"):
        add_tokens(_base(), texts)
