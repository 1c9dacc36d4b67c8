"""Attention from a cache: the C kernel and the torch formula that stands in for it."""

import math

import pytest
import torch

from tunesmith.models.kernels import build
from tunesmith.models.kernels.cached import Lengths, attend_cached


@pytest.fixture(params=["native", "torch"], autouse=True)
def computed_by(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(build, "library", lambda: None)
    elif build.library() is None:
        pytest.skip("there is no C compiler here")
    return request.param


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_by_hand():
    # Scores ln 3 and 0, so shares 3/4 and 1/4 of the values 1 and 5; the third place is not seen.
    q = torch.tensor([[[[1.0]]]])
    keys = torch.tensor([[[[math.log(3.0)], [0.0], [99.0]]]])
    values = torch.tensor([[[[1.0], [5.0], [99.0]]]])
    out = attend_cached(q, keys, values, Lengths([2], q.device), 1.0)
    torch.testing.assert_close(out, torch.tensor([[[[2.0]]]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [None, 1, 7, 40])
@pytest.mark.parametrize("lengths", [(1, 30, 17, 40), (9, 9, 9, 9), (300, 1, 2, 3)])
def test_equals_softmax_over_the_row(dtype, window, lengths):
    rows, groups, each, width = len(lengths), 2, 3, 20
    q = _random(rows, groups, each, width).to(dtype)
    keys = _random(rows + 2, groups, 310, width, seed=1).to(dtype)
    values = _random(rows + 2, groups, 310, width, seed=2).to(dtype)
    out = attend_cached(q, keys, values, Lengths(lengths, q.device), 0.3, window)
    assert (out.shape, out.dtype) == (q.shape, dtype)
    for row, length in enumerate(lengths):
        seen = slice(max(0, length - (window or length)), length)
        k, v = keys[row, :, seen].double(), values[row, :, seen].double()
        expected = torch.softmax(0.3 * q[row].double() @ k.transpose(1, 2), -1) @ v
        limit = 1e-5 if dtype is torch.float32 else 2e-2
        torch.testing.assert_close(out[row].double(), expected, rtol=limit, atol=limit)
