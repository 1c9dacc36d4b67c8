"""Which weights `freeze` trains, and in what types the others are held."""

import json

import pytest
import torch

from tests.adapters.conftest import attach, logits, move
from tunesmith.adapters import freeze
from tunesmith.errors import RecipeError
from tunesmith.models import fast
from tunesmith.models.narrow import computing, narrow_frozen, narrowest, one_type
from tunesmith.testing.tiny import tiny_model

BLOCK = 64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3 + 64 * 2
"""Parameters of a block of the tiny model: q, o; k, v; gate, up, down; two norms."""


@pytest.mark.parametrize(
    ("keys", "number"),
    [
        ({}, 2 * BLOCK),
        ({"last_blocks": 1}, BLOCK),
        ({"share": 0.5}, BLOCK),
        ({"norms": True}, 5 * 64),
        ({"embeddings": True}, 320 * 64),
        ({"patterns": ["*.down_proj.weight"]}, 2 * 64 * 128),
        ({"last_blocks": 1, "embeddings": True}, BLOCK + 320 * 64),
    ],
    ids=str,
)
def test_what_is_trained_by_hand(keys, number):
    attached = attach(freeze.Config(**keys), tiny_model(0))
    assert attached.num_trained == number
    assert attached.disabled is None


def test_the_last_block_is_the_one_before_the_head():
    attached = attach(freeze.Config(last_blocks=1), tiny_model(0))
    assert {name.split(".")[2] for name in attached.trained} == {"1"}


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"last_blocks": 3}, "adapter.last_blocks: got 3; expected at most 2"),
        ({"share": 0.01}, "adapter.share: got 0.01, less than one block"),
        ({"patterns": ["*c_attn*"]}, r"adapter.patterns: got '\*c_attn\*', which no parameter has"),
    ],
)
def test_what_is_not_there_is_refused(keys, text):
    with pytest.raises(RecipeError, match=text):
        attach(freeze.Config(**keys), tiny_model(0))


def test_frozen_weights_are_held_narrow_and_trained_ones_wide(tmp_path):
    attached = attach(freeze.Config(last_blocks=1), tiny_model(0))
    narrow_frozen(attached.model, torch.bfloat16)
    types = {n: p.dtype for n, p in attached.model.named_parameters()}
    assert {types[n] for n in attached.trained} == {torch.float32}
    assert {t for n, t in types.items() if n not in attached.trained} == {torch.bfloat16}
    assert narrowest(attached.model) is torch.bfloat16
    assert fast.lay_over(attached.model)["attention"] == 2
    ids = torch.arange(12)[None]
    with computing(attached.model):
        wide = attached.model(input_ids=ids).logits
    with one_type(attached.model) as dtype:
        assert dtype is torch.float32
    torch.testing.assert_close(wide.float(), logits(tiny_model(0)), rtol=0, atol=0.02)
    assert {n: p.dtype for n, p in attached.model.named_parameters()} == types


def test_the_artefact_is_a_whole_model(tmp_path):
    attached = move(attach(freeze.Config(norms=True), tiny_model(0)))
    freeze.write(attached, tmp_path, "some/base")
    assert json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"] == 2
    assert len(freeze.saved(attached).tensors) == len(list(attached.model.parameters()))
