"""GRPO by hand; beside TRL in `test_policy_values.py`."""

from math import exp, log

import numpy as np
import pytest

from tests.methods.drawn import Given, batch_of, group
from tunesmith.methods import grpo

HIGH = 0.5 / (0.5**0.5 + 1e-4)
"""Advantage of the better one of two answers with rewards 1 and 0."""


def _advantages(one, **keys):
    (lesson,) = grpo.lessons([one], grpo.Config(**keys))
    return lesson.by_answer["advantage"].tolist(), lesson.trained.tolist()


def test_an_answer_is_judged_against_the_others_to_its_prompt():
    advantages, trained = _advantages(group([1, 2], [1.0, 0.0]))
    assert advantages == pytest.approx([HIGH, -HIGH])
    assert trained == [True, True]
    assert _advantages(group([1, 2], [1.0, 0.0]), scale="none")[0] == [0.5, -0.5]


def test_a_group_of_equal_rewards_counts_unless_rounds_leave_it_out():
    assert _advantages(group([1, 2], [0.3, 0.3])) == ([0.0, 0.0], [True, True])
    assert _advantages(group([1, 2], [0.3, 0.3]), rounds=1)[1] == [False, False]
    assert _advantages(group([1, 2], [0.3, 0.4]), rounds=1)[1] == [True, True]


def test_cut_answers_are_not_trained_with_mask_but_judge_the_others():
    advantages, trained = _advantages(group([1, 2], [1.0, 0.0], [True, False]), cut="mask")
    assert advantages == pytest.approx([HIGH, -HIGH])
    assert trained == [True, False]


def test_punished_length_takes_away_up_to_one():
    # Of 10 tokens the last two cost: 8 nothing, 9 a half, 10 all.
    one = group([8, 9, 10], [1.0, 1.0, 1.0])
    advantages, _ = _advantages(one, cut="punish", max_new_tokens=10, scale="none")
    assert advantages == pytest.approx([0.5, 0.0, -0.5])


def test_the_loss_by_hand():
    one = group([1, 2], [1.0, 0.0], old=[-1.0, -1.0, -1.0])
    policy, config = Given([-1.0 + log(1.5), -1.0 + log(1.1), -1.0 + log(0.5)]), grpo.Config()
    found = grpo.loss(policy, batch_of([one], grpo.lessons([one], config)), config)
    # 1.5 is clipped to 1.2; of the worse answer 1.1 goes on, and 0.5 is clipped to 0.8.
    assert found.total.item() == pytest.approx(-1.2 * HIGH + (1.1 + 0.8) / 2 * HIGH)
    assert found.count == 2
    assert found.figures["clipped"][0].item() == 2
    found.total.backward()
    assert policy.log_probs.grad.tolist() == pytest.approx([0.0, 1.1 / 2 * HIGH, 0.0])


@pytest.mark.parametrize(
    ("average", "total", "count"),
    [("answers", -1.0 + 1.0, 2), ("tokens", -1.0 + 2.0, 3), ("constant", -0.2 + 0.4, 2)],
)
def test_what_is_averaged_over(average, total, count):
    one = group([1, 2], [1.0, 0.0])
    config = grpo.Config(average=average, max_new_tokens=5)
    batch = batch_of([one], grpo.lessons([one], config))
    found = grpo.loss(Given([-1.0, -2.0, -3.0]), batch, config)
    assert found.total.item() == pytest.approx(total * HIGH, abs=1e-6)
    assert found.count == count


def test_the_ratio_of_an_answer_is_the_geometric_mean():
    one = group([1, 2], [0.0, 1.0], old=[-1.0, -1.0, -1.0])
    config = grpo.Config(importance="answer", clip=(0.5, 0.5))
    policy = Given([-1.0, -1.0 + log(1.44), -1.0])
    found = grpo.loss(policy, batch_of([one], grpo.lessons([one], config)), config)
    assert found.total.item() == pytest.approx(HIGH - 1.2 * HIGH)


@pytest.mark.parametrize(
    ("estimator", "expected"), [("k1", 0.5), ("k2", 0.125), ("k3", exp(-0.5) - 1 + 0.5)]
)
def test_the_divergence_is_added_at_each_token(estimator, expected):
    one = group([1, 1], [0.5, 0.5], reference=[-1.5, -1.5])
    config = grpo.Config(beta=0.1, kl_estimator=estimator)
    found = grpo.loss(Given([-1.0, -1.0]), batch_of([one], grpo.lessons([one], config)), config)
    assert found.total.item() == pytest.approx(2 * 0.1 * expected)
    assert found.figures["kl"][0].item() == pytest.approx(2 * 0.5)


def test_a_divergence_that_is_only_watched_changes_no_loss():
    one = group([1, 1], [0.5, 0.5], reference=[-1.5, -1.5])
    config = grpo.Config(beta=0)
    found = grpo.loss(Given([-1.0, -1.0]), batch_of([one], grpo.lessons([one], config)), config)
    assert found.total.item() == 0
    assert found.figures["kl"][0].item() == pytest.approx(1.0)


def test_the_temperature_reaches_the_log_probabilities_and_the_gap_is_told():
    one = group([1, 1], [1.0, 0.0], sampler=[-1.0, -1.25])
    policy, config = Given([-1.0, -1.0]), grpo.Config(temperature=0.7)
    found = grpo.loss(policy, batch_of([one], grpo.lessons([one], config)), config)
    assert policy.temperatures == [0.7]
    assert found.figures["sampler_gap"] == (pytest.approx(np.float32(0.25)), 2)
