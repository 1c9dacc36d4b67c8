"""The loss of dft by hand, and its gradient; test_trl_sft.py has what TRL computes."""

import math

import numpy as np
import pytest
import torch

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.methods import dft
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import NUM_VOCABULARY, tiny_model


def _batch(weights=None):
    ids = np.array([5, 9, 2, 7, 11], np.int32)
    numbers = {} if weights is None else {"weights": np.array(weights, np.float32)}
    return collate([Example(ids, np.arange(5) >= 3, "f", 1, (), numbers)], True, 0)


def test_a_model_that_knows_nothing_loses_log_v_over_v_a_token():
    model = tiny_model(seed=0)
    torch.nn.init.zeros_(model.lm_head.weight)
    policy = Policy(model, "fast", torch.float32)
    expected = math.log(NUM_VOCABULARY) / NUM_VOCABULARY
    loss = dft.loss(policy, _batch(), dft.Config())
    assert (loss.count, loss.total.item()) == (2, pytest.approx(2 * expected, rel=1e-6))
    weighed = dft.loss(policy, _batch([0.5, 1.0]), dft.Config())
    assert (weighed.count, weighed.total.item()) == (1.5, pytest.approx(1.5 * expected, rel=1e-6))


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_the_gradient_is_that_of_less_probability(kernels):
    policy = Policy(tiny_model(seed=1), kernels, torch.float32)
    dft.loss(policy, _batch(), dft.Config()).total.backward()
    got = [p.grad.clone() for p in policy.model.parameters()]
    policy.model.zero_grad()
    (-torch.exp(-policy.token_nll(_batch()))).sum().backward()
    for mine, other in zip(got, policy.model.parameters(), strict=True):
        torch.testing.assert_close(mine, other.grad, rtol=1e-4, atol=1e-7)
