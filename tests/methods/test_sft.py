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
