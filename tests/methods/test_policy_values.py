"""Losses and gradients of policy methods beside those of TRL on the same numbers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.methods.drawn import Given, batch_of, group, groups_of
from tests.methods.example_rows import needed_keys
from tunesmith.data.collate import collate
from tunesmith.engine.rollouts.examples import example_of
from tunesmith.methods import base
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import tiny_model

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
    return groups_of(TRL, TRL["num_answers"], ("old", "reference"))


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


class Student:
    """A policy whose logits, in the places of the trained tokens, are what the test says."""

    def __init__(self, logits):
        self.logits_NV = torch.tensor(logits, requires_grad=True)

    def log_probs_at(self, batch, ids_NK, temperature):
        """As `Policy` does."""
        return torch.log_softmax(self.logits_NV / temperature, -1).gather(1, ids_NK)


@pytest.mark.parametrize("kind", ["forward", "reverse", "jsd"])
def test_on_policy_distillation_is_that_of_trl(kind):
    number, size = len(TRL["teacher"]), len(TRL["teacher"][0])
    teacher = torch.log_softmax(torch.tensor(TRL["teacher"]) / TRL["temperature"], -1)
    told = TRL | {"teacher_ids": [list(range(size))] * number, "teacher_log_probs": teacher.numpy()}
    groups = groups_of(told, TRL["num_answers"], ("teacher_ids", "teacher_log_probs"))
    method = base.load("gkd")
    config = method.Config(
        teacher="starter", divergence=kind, mix=0.25, temperature=TRL["temperature"]
    )
    student = Student(TRL["student"])
    found = method.loss(student, batch_of(groups, method.lessons(groups, config)), config)
    (found.total / found.count).backward()
    expected = TRL["cases"][f"gkd_{kind}"]
    assert found.total.item() / found.count == pytest.approx(expected["loss"], rel=1e-5)
    torch.testing.assert_close(
        student.logits_NV.grad, torch.tensor(expected["gradient"]), rtol=1e-4, atol=1e-6
    )


SAMPLED = [name for name in base.names() if "sampler" in base.load(name).NEEDS]


def _config(method, **keys):
    return method.Config(**needed_keys(method.Config), **keys)


def _drawn(method, config):
    numbers = {name: TRL[name][:8] for name in ("old", "reference")}
    values = {"values": np.linspace(0, 1, 8), "sampler": numbers["old"]}
    if config.teacher_tokens:
        values["teacher_ids"] = np.tile([7, 70, 170], (8, 1))
        values["teacher_log_probs"] = -1.5 - np.random.default_rng(0).random((8, 3))
    groups = [
        group([3, 1, 4], [0.0, 1.0, 0.5], number=number, **numbers, **values) for number in range(3)
    ]
    return groups, method.lessons(groups, config)


def _loss(method, parts, kernels="fast", packed=True):
    config = _config(method, max_new_tokens=5, temperature=0.8)
    groups, lessons = _drawn(method, config)
    policy = Policy(tiny_model(seed=0), kernels, torch.float32)
    if hasattr(method, "companion"):
        torch.manual_seed(0)
        policy.companion = method.companion(64, config).module
        torch.nn.init.normal_(policy.companion.weight)
    total, count = 0.0, 0
    for part in parts:
        examples = [example_of(groups[i], lessons[i]) for i in part]
        found = method.loss(policy, collate(examples, packed, 0), config)
        found.total.backward()
        total, count = total + found.total.item(), count + found.count
    return total, count, torch.cat([p.grad.flatten() for p in policy.model.parameters()])


@pytest.mark.parametrize("name", SAMPLED)
def test_neither_passes_nor_padding_nor_kernels_matter(name):
    method = base.load(name)
    total, count, gradient = _loss(method, [[0, 1, 2]])
    assert np.isfinite(total)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
    for other in (
        _loss(method, [[0], [1, 2]]),
        _loss(method, [[2, 1], [0]], packed=False),
        _loss(method, [[0, 1, 2]], kernels="reference"),
    ):
        assert other[0] == pytest.approx(total, rel=1e-4, abs=1e-4)
        assert other[1] == count
        torch.testing.assert_close(other[2], gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SAMPLED)
def test_the_file_defines_what_a_method_is(name):
    method = base.load(name)
    assert _config(method).name == name
    assert "arXiv" in method.__doc__
    assert set(_drawn(method, _config(method))[1][0].by_answer) <= {"advantage"}
