"""Losses and gradients of PPO and of REINFORCE++ beside those of TRL's PPO on the same numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.methods.drawn import Given, batch_of, groups_of
from tunesmith.methods import ppo, reinforce

TRL = json.loads(Path(__file__).with_name("trl_ppo_values.json").read_text())
"""Of TRL 0.11.4, by `make_trl_ppo_values.py`."""
GROUP = 3
"""Answers to a prompt; neither method asks which answers belong together."""


def _config(case):
    options = TRL["cases"][case]["options"]
    shared = {"clip": (options["cliprange"], options["cliprange"]), "beta": options["beta"]}
    if not options["values"]:
        return reinforce, reinforce.Config(**shared)
    return ppo, ppo.Config(
        **shared,
        discount=options["gamma"],
        trace=options["lam"],
        value_weight=options["vf_coef"],
        value_clip=options["cliprange_value"],
    )


@pytest.mark.parametrize("case", TRL["cases"])
def test_advantages_loss_and_gradients_are_those_of_trl(case):
    method, config = _config(case)
    expected = TRL["cases"][case]
    groups = groups_of(TRL, GROUP, ("old", "reference", "values"))
    lessons = method.lessons(groups, config)
    advantages = np.concatenate([each.by_token["advantage"] for each in lessons])
    assert advantages == pytest.approx(expected["advantages"], rel=1e-5, abs=1e-6)
    policy = Given(TRL["now"], TRL["expected"])
    found = method.loss(policy, batch_of(groups, lessons), config)
    (found.total / found.count).backward()
    assert found.total.item() / found.count == pytest.approx(expected["loss"], rel=1e-5, abs=1e-7)
    _same(policy.log_probs.grad, expected["gradient"])
    if method is ppo:
        _same(policy.states.grad[:, 0], expected["value_gradient"])


def _same(gradient, expected):
    torch.testing.assert_close(gradient, torch.tensor(expected), rtol=1e-4, atol=1e-6)
