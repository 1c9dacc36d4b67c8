"""Leave-one-out by hand; beside TRL in `test_policy_values.py`."""

from math import log

import pytest

from tests.methods.drawn import Given, batch_of, group
from tunesmith.methods import rloo


def test_an_answer_is_judged_against_the_mean_of_the_others():
    (lesson,) = rloo.lessons([group([1, 1, 1], [1.0, 0.0, 0.5])], rloo.Config())
    assert lesson.by_answer["advantage"].tolist() == pytest.approx([0.75, -0.75, 0.0])


def test_what_the_model_has_moved_is_taken_from_the_reward():
    one = group([2, 1], [1.0, 1.0], old=[-1.0, -1.0, -1.0], reference=[-1.5, -2.0, -1.0])
    (lesson,) = rloo.lessons([one], rloo.Config(beta=0.2))
    # 1 - 0.2 (0.5 + 1) and 1.
    assert lesson.by_answer["advantage"].tolist() == pytest.approx([-0.3, 0.3])
    assert rloo.Config(beta=0.2).judged_first
    assert not rloo.Config(beta=0).judged_first


def test_the_ratio_is_that_of_the_whole_answer():
    one = group([2, 1], [1.0, 0.0], old=[-1.0, -1.0, -1.0])
    policy, config = Given([-1.0 + log(1.05), -1.0 + log(1.1), -1.0]), rloo.Config()
    found = rloo.loss(policy, batch_of([one], rloo.lessons([one], config)), config)
    assert found.total.item() == pytest.approx(-1.155 + 1.0)
    assert found.count == 2
    found.total.backward()
    assert policy.log_probs.grad.tolist() == pytest.approx([-1.155, -1.155, 1.0])
