"""REINFORCE by hand."""

from math import log

import pytest

from tests.methods.drawn import Given, batch_of, group
from tunesmith.methods import reinforce


def _advantages(groups, **keys):
    lessons = reinforce.lessons(groups, reinforce.Config(**keys))
    return [lesson.by_token["advantage"].tolist() for lesson in lessons]


def test_baselines():
    groups = [group([2, 1], [1.0, 0.0]), group([1, 1], [1.0, 1.0], number=1)]
    plain = {"normalize": False}
    assert _advantages(groups, **plain) == [[1.0, 1.0, 0.0], [1.0, 1.0]]
    assert _advantages(groups, **plain, baseline="group") == [[0.5, 0.5, -0.5], [0.0, 0.0]]
    expected = [[0.25, 0.25, -0.75], [0.25, 0.25]]
    assert _advantages(groups, **plain, baseline="rollout") == expected


def test_a_token_loses_what_it_and_those_behind_it_moved():
    one = group([3], [1.0], old=[-1.0, -1.0, -1.0], reference=[-1.5, -2.0, -1.25])
    (found,) = _advantages([one], beta=0.2, normalize=False)
    assert found == pytest.approx([1 - 0.35, 1 - 0.25, 1 - 0.05])


def test_normalised_over_the_tokens_of_all_groups():
    groups = [group([1, 1], [1.0, 0.0]), group([2], [0.5], number=1)]
    # 1, 0, 0.5, 0.5: mean 0.5, sample deviation 0.5 * sqrt(2 / 3).
    width = 0.5 * (2 / 3) ** 0.5
    first, second = _advantages(groups)
    assert first == pytest.approx([0.5 / width, -0.5 / width], rel=1e-6)
    assert second == pytest.approx([0.0, 0.0])


def test_the_loss_is_a_sum_over_tokens():
    one = group([2], [1.0], old=[-1.0, -1.0])
    policy, config = Given([-1.0 + log(1.1), -1.0 + log(1.3)]), reinforce.Config(normalize=False)
    found = reinforce.loss(policy, batch_of([one], reinforce.lessons([one], config)), config)
    assert (found.total.item(), found.count) == (pytest.approx(-1.1 - 1.2), 2)
