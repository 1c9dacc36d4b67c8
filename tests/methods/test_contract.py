"""What holds for every method in the folder."""

import numpy as np
import pytest
import torch

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.methods import base
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import tiny_model

PLAIN = [name for name in base.names() if "sampler" not in base.load(name).NEEDS]
"""Methods whose examples are rows; those that draw them are in `test_policy_values.py`."""


@pytest.fixture(params=PLAIN)
def method(request):
    return base.load(request.param)


def _examples():
    rng = np.random.default_rng(0)
    return [
        Example(rng.integers(0, 256, n).astype(np.int32), np.arange(n) >= n // 2, "f", i)
        for i, n in enumerate((9, 4, 14), 1)
    ]


def _loss(method, examples, packed=True):
    policy = Policy(tiny_model(seed=0), "fast", torch.float32)
    found = method.loss(policy, collate(examples, packed, 0), method.Config())
    found.total.backward()
    return found, policy


def test_the_file_defines_what_a_method_is(method):
    assert method.Config().name == method.__name__.rpartition(".")[2]
    assert {"reference", "sampler", "reward", "teacher"} >= method.NEEDS
    assert "arXiv" in method.__doc__


def test_loss_and_gradient_are_finite_and_the_loss_is_no_mean(method):
    once, policy = _loss(method, _examples())
    twice, _ = _loss(method, _examples() * 2)
    assert all(p.grad.isfinite().all() for p in policy.model.parameters())
    assert twice.count == 2 * once.count
    torch.testing.assert_close(twice.total, 2 * once.total, rtol=1e-5, atol=1e-5)


def test_packing_and_padding_do_not_matter(method):
    packed, _ = _loss(method, _examples())
    padded, _ = _loss(method, _examples(), packed=False)
    alone = sum(_loss(method, [e])[0].total.item() for e in _examples())
    assert packed.total.item() == pytest.approx(alone, rel=1e-5)
    assert padded.total.item() == pytest.approx(alone, rel=1e-5)
