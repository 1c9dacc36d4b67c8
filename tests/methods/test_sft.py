"""The loss of sft, by hand."""

import math

import numpy as np
import pytest
import torch

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.methods import sft
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import NUM_VOCABULARY, tiny_model


def test_a_model_that_knows_nothing_loses_log_v_a_token():
    model = tiny_model(seed=0)
    torch.nn.init.zeros_(model.lm_head.weight)  # Tied: every logit is 0, every p is 1 / V.
    trained = np.array([False, False, True, True])
    batch = collate([Example(np.arange(4, dtype=np.int32), trained, "f", 1)], True, 0)
    loss = sft.loss(Policy(model, "fast", torch.float32), batch, sft.Config())
    assert loss.count == 2
    assert loss.total.item() == pytest.approx(2 * math.log(NUM_VOCABULARY), rel=1e-6)


def _batch(weights=None):
    """Two examples with 2 and 1 trained tokens."""
    examples = []
    for number, trained in enumerate(([0, 0, 1, 1], [0, 1, 0])):
        mask = np.array(trained, bool)
        numbers = {} if weights is None else {"weights": np.array(weights[number], np.float32)}
        ids = np.arange(len(mask), dtype=np.int32)
        examples.append(Example(ids, mask, "f", number, (), numbers))
    return collate(examples, True, 0)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_weights_count_in_the_sum_and_in_what_it_is_divided_by(kernels):
    policy = Policy(tiny_model(seed=0), kernels, torch.float32)
    nll = policy.token_nll(_batch()).tolist()
    loss = sft.loss(policy, _batch([[0.5, 2.0], [0.25]]), sft.Config())
    assert loss.count == 2.75
    assert loss.total.item() == pytest.approx(0.5 * nll[0] + 2 * nll[1] + 0.25 * nll[2], rel=1e-5)
    assert loss.each.tolist() == pytest.approx(nll, rel=1e-5)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_smoothing_spreads_the_target_over_the_vocabulary(kernels):
    model = tiny_model(seed=0)
    policy = Policy(model, kernels, torch.float32)
    logits = model(input_ids=torch.arange(4)[None]).logits[0, 1:3].detach()
    log_p = torch.log_softmax(logits, -1)
    wanted = sum(-0.8 * log_p[i, target] - 0.2 * log_p[i].mean() for i, target in enumerate((2, 3)))
    one = collate([Example(np.arange(4, dtype=np.int32), np.arange(4) >= 2, "f", 1)], True, 0)
    loss = sft.loss(policy, one, sft.Config(label_smoothing=0.2))
    assert loss.total.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert loss.count == 2
