"""The moving average of weights, and weights that stand in for others while they are measured."""

import pytest
import torch
from torch import nn

from tunesmith.engine.ema import Ema
from tunesmith.engine.measured import Measured, put_in_place


def test_three_updates_by_hand():
    weight = nn.Parameter(torch.tensor([1.0]))
    ema = Ema({"w": weight}, decay=0.2)
    found = []
    for value in (2.0, 3.0, 4.0):
        weight.data.fill_(value)
        ema.update()
        found.append(ema.tensors()["ema/w"].item())
    # Decays min(0.2, 2/11), min(0.2, 3/12), min(0.2, 4/13).
    first = 2 / 11 * 1 + 9 / 11 * 2
    second = 0.2 * first + 0.8 * 3
    assert found == pytest.approx([first, second, 0.2 * second + 0.8 * 4], rel=1e-6)


def test_it_goes_on_from_what_was_saved_in_the_same_bits():
    torch.manual_seed(0)
    weights = [torch.randn(5) for _ in range(6)]
    whole, half = (nn.Parameter(torch.zeros(5)) for _ in range(2))
    one, first = Ema({"w": whole}, 0.9), Ema({"w": half}, 0.9)
    for number, values in enumerate(weights):
        whole.data.copy_(values)
        one.update()
        if number == 2:
            saved = {n: t.clone() for n, t in one.tensors().items()}, one.state()
    first.load(*saved)
    for values in weights[3:]:
        half.data.copy_(values)
        first.update()
    assert torch.equal(first.tensors()["ema/w"], one.tensors()["ema/w"])


def test_weights_stand_in_for_a_time_and_the_trained_ones_come_back():
    weight = nn.Parameter(torch.tensor([0.1, 0.7]))
    before, version = weight.detach().clone(), weight._version
    ema = Ema({"w": weight}, 0.9)
    weight.data.add_(1)
    trained = weight.detach().clone()
    with put_in_place({"w": weight}, ema.put):
        assert torch.equal(weight, before)
    assert torch.equal(weight, trained)
    # What fast paths keep of a weight is made anew by this count.
    assert weight._version > version
    measured = Measured({"w": weight}, ema.put)
    with pytest.raises(RuntimeError, match="broken"), measured():
        raise RuntimeError("broken")
    assert torch.equal(weight, trained)
    measured.settle()
    assert torch.equal(weight, before)


def test_where_nothing_stands_in_nothing_is_done():
    weight = nn.Parameter(torch.zeros(1))
    with Measured({"w": weight})():
        weight.data.fill_(2)
    Measured({"w": weight}).settle()
    assert weight.item() == 2
