"""Losses and gradients of policy methods beside those of TRL on the same numbers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.methods.drawn import Given, batch_of, group
from tunesmith.methods import base

TRL = json.loads(Path(__file__).with_name("trl_policy_values.json").read_text())
"""Of TRL 1.16.0, by `make_trl_policy_values.py`."""

SAME = {
    "grpo": ("grpo", {}),
    "grpo_kl": ("grpo", {"beta": 0.3}),
    "dapo": ("grpo", {"average": "tokens", "clip": (0.2, 0.28)}),
    "dr_grpo": ("grpo", {"average": "constant", "scale": "none"}),
    "gspo": ("grpo", {"importance": "answer", "beta": 0.1}),
    "rloo": ("rloo", {}),
}
"""Our name and keys for each case."""


def _groups():
    number, ends = TRL["num_answers"], np.cumsum(TRL["lengths"])
    found = []
    for first in range(0, len(TRL["lengths"]), number):
        answers = slice(first, first + number)
        tokens = slice(ends[first] - TRL["lengths"][first], ends[first + number - 1])
        numbers = {name: TRL[name][tokens] for name in ("old", "reference")}
        lengths, rewards = TRL["lengths"][answers], TRL["rewards"][answers]
        found.append(group(lengths, rewards, number=first, **numbers))
    return found


@pytest.mark.parametrize("case", SAME)
def test_loss_and_gradient_are_those_of_trl(case):
    name, keys = SAME[case]
    method = base.load(name)
    config = method.Config(max_new_tokens=TRL["max_new_tokens"], **keys)
    groups, policy = _groups(), Given(TRL["now"])
    found = method.loss(policy, batch_of(groups, method.lessons(groups, config)), config)
    (found.total / found.count).backward()
    expected = TRL["cases"][case]
    assert found.total.item() / found.count == pytest.approx(expected["loss"], rel=1e-5)
    torch.testing.assert_close(
        policy.log_probs.grad, torch.tensor(expected["gradient"]), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("case", SAME)
def test_a_step_cut_between_answers_is_the_same(case):
    name, keys = SAME[case]
    method = base.load(name)
    config = method.Config(max_new_tokens=TRL["max_new_tokens"], **keys)
    total, count, now = 0.0, 0, iter(TRL["now"])
    for one, lesson in zip(_groups(), method.lessons(_groups(), config), strict=True):
        for number, answer in enumerate(one.answers):
            alone = replace(lesson, trained=np.arange(len(one)) == number)
            policy = Given([next(now) for _ in answer])
            found = method.loss(policy, batch_of([one], [alone]), config)
            total, count = total + found.total.item(), count + found.count
    assert total / count == pytest.approx(TRL["cases"][case]["loss"], rel=1e-5)
