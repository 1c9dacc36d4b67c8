"""Best of n by hand."""

import numpy as np
import pytest

from tests.methods.drawn import Given, batch_of, group
from tunesmith.methods import rejection


def _kept(one, **keys):
    (lesson,) = rejection.lessons([one], rejection.Config(**keys))
    return lesson.trained.tolist(), lesson.figures["passed"]


def test_the_best_answer_is_kept_and_the_first_of_equals():
    one = group([1, 1, 1], [0.6, 0.9, 0.9])
    assert _kept(one) == ([False, True, False], (1.0, 1.0))
    assert _kept(one, keep=2)[0] == [False, True, True]


def test_a_prompt_without_a_passing_answer_is_left_out_and_told():
    one = group([1, 1], [0.4, 0.3])
    assert _kept(one) == ([False, False], (0.0, 1.0))
    assert _kept(one, threshold=None)[0] == [True, False]


def test_equal_answers_are_kept_once_and_cut_ones_not_with_mask():
    one = group([1, 1, 1], [1.0, 1.0, 0.5], [False, True, True])
    same = type(one)(
        **{n: getattr(one, n) for n in one.__slots__}
        | {"answers": (one.answers[0], one.answers[0], one.answers[2])}
    )
    assert _kept(same, keep=3)[0] == [True, False, True]
    assert _kept(one, cut="mask")[0] == [False, True, False]


def test_the_loss_is_that_of_sft_on_the_kept_answer():
    one = group([2, 1], [0.0, 1.0])
    config = rejection.Config(temperature=0.5)
    lessons = rejection.lessons([one], config)
    policy = Given([-0.75])
    found = rejection.loss(policy, batch_of([one], lessons), config)
    assert (found.total.item(), found.count) == (pytest.approx(0.75), 1)
    assert np.array_equal(lessons[0].trained, [False, True])
