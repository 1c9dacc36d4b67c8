"""How far parameters move, and whether numbers are finite."""

import math

import pytest
import torch

from tunesmith.engine import watch as module
from tunesmith.engine.sound import unsound
from tunesmith.engine.watch import EVERY, Watch


def test_an_update_by_hand():
    a, b = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.zeros(2, 2))
    watch = Watch([a, b])

    def update():
        with torch.no_grad():
            a.add_(3.0)
            b[0, 0] = 4.0

    found = watch.around(0, update)
    assert found.update_norm == pytest.approx(math.sqrt(3**2 + 3**2 + 4**2))
    assert found.grown_norm == pytest.approx(4.0)
    assert a.tolist() == [4.0, 4.0]


def test_most_steps_are_only_made():
    parameter, made = torch.nn.Parameter(torch.ones(2)), []
    watch = Watch([parameter])
    looked = [watch.around(step, lambda: made.append(1)) for step in range(2 * EVERY + 1)]
    assert [step for step, found in enumerate(looked) if found] == [0, EVERY, 2 * EVERY]
    assert len(made) == 2 * EVERY + 1
    assert looked[0].grown_norm is None


def test_a_part_stands_for_a_large_tensor(monkeypatch):
    monkeypatch.setattr(module, "MOST", 100)
    large = torch.nn.Parameter(torch.ones(40, 40).t())
    found = Watch([large]).around(0, lambda: large.data.add_(0.5))
    assert found.update_norm == pytest.approx(0.5 * 40)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_one_number_that_is_not_finite_is_found(bad, dtype):
    tensors = {"a": torch.ones(3, 4, dtype=dtype), "b": torch.full((2,), 3e38).to(dtype)}
    tensors |= {"empty": torch.empty(0), "step": torch.tensor(3), "scalar": torch.tensor(1.0)}
    assert unsound(tensors) == []
    tensors["a"][1, 2] = bad
    assert unsound(tensors) == ["a"]
    assert unsound({}) == []
