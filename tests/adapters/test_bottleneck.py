"""Bottleneck adapters, worked out by hand and read back."""

import json

import pytest
import torch
from torch import nn

from tests.adapters.conftest import attach, logits, move, small
from tunesmith.adapters import bottleneck
from tunesmith.adapters.bottleneck import Bottleneck, Config
from tunesmith.errors import CommandError, RecipeError
from tunesmith.export import forms


def _by_hand(placement, scale=1.0):
    """A part that answers 2 x, with D = [[1, -1]], d = 1, U = [[3], [-2]], u = [0.5, 0]."""
    part = nn.Linear(2, 2, bias=False)
    config = Config(placement=placement, width=1, scale=scale)
    layer = Bottleneck(part, config, 2, torch.device("cpu"))
    with torch.no_grad():
        part.weight.copy_(torch.eye(2) * 2)
        layer.down.weight.copy_(torch.tensor([[1.0, -1.0]]))
        layer.down.bias.fill_(1.0)
        layer.up.weight.copy_(torch.tensor([[3.0], [-2.0]]))
        layer.up.bias.copy_(torch.tensor([0.5, 0.0]))
    return layer


def test_after_a_part_by_hand():
    # h = 2 (3, 1) = (6, 2); D h + d = 5; U 5 + u = (15.5, -10)
    got = _by_hand("houlsby")(torch.tensor([3.0, 1.0]))
    assert got.tolist() == [6 + 15.5, 2 - 10]
    # h = (2, 6); D h + d = -3, which relu makes 0; u alone is left
    assert _by_hand("pfeiffer")(torch.tensor([1.0, 3.0])).tolist() == [2.5, 6.0]


def test_beside_a_part_by_hand():
    # x = (3, 1); D x + d = 3; 4 (U 3 + u) = 4 (9.5, -6)
    got = _by_hand("parallel", scale=4.0)(torch.tensor([3.0, 1.0]))
    assert got.tolist() == [6 + 38, 2 - 24]


@pytest.mark.parametrize(
    ("placement", "places"),
    [
        ("houlsby", {"self_attn": 2, "mlp": 2}),
        ("pfeiffer", {"mlp": 2}),
        ("parallel", {"mlp": 2}),
    ],
)
def test_where_they_are_and_how_many_numbers(placement, places, tmp_path):
    attached = attach(Config(placement=placement, width=8), small(num_hidden_layers=2))
    assert attached.targeted == places
    assert attached.num_trained == sum(places.values()) * (64 * 8 + 8 + 8 * 64 + 64)
    before = logits(small(num_hidden_layers=2))
    assert torch.equal(logits(attached.model), before)
    bottleneck.write(move(attached), tmp_path, "some/base")
    again = bottleneck.reopen(small(num_hidden_layers=2), tmp_path)
    assert torch.equal(logits(again), logits(attached.model))
    with again.disable_adapter():
        assert torch.equal(logits(again), before)
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    assert written["tunesmith"] == "bottleneck"
    assert (written["placement"], written["width"]) == (placement, 8)


def test_it_cannot_be_merged():
    with pytest.raises(CommandError, match="--to: got merged, of an adapter that is no change"):
        forms.check("merged", None, True, stands_alone=True)
    assert forms.check("adapter", None, True, stands_alone=True) == ""


def test_blocks_whose_parts_have_other_names_are_refused():
    model = small()
    model.model.layers[0].feed = model.model.layers[0].mlp
    del model.model.layers[0].mlp
    with pytest.raises(RecipeError, match="adapter.placement: got pfeiffer for blocks without"):
        bottleneck.attach(model, Config(), seed=0)
