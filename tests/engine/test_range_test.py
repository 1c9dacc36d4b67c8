"""The rate that a range test suggests, by hand."""

from math import nan

import pytest

from tunesmith.engine.range_test import Point, Rising, smoothed, suggest


def test_rates_rise_exponentially():
    rates = Rising(1e-6, 1e-2, 5)
    assert [rates(step) for step in range(5)] == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2])


def test_each_loss_is_held_against_that_of_its_own_rows():
    points = [Point(1e-3, loss, start) for loss, start in ((2.0, 1.0), (5.0, 5.0), (0.5, 1.0))]
    assert [point.change for point in points] == [1.0, 0.0, -0.5]
    assert smoothed(points) == pytest.approx([0.5 / 3] * 3)


def _curve(changes):
    rates = Rising(1e-6, 1.0, len(changes))
    return [Point(rates(i), 2.0 + change, 2.0) for i, change in enumerate(changes)]


def test_a_fall_and_a_rise():
    # Steps 30 to 39 fall by 0.1 each, 40 to 49 stay, then it rises; ten steps are a factor of ten.
    changes = [0.0] * 30 + [-0.1 * (i + 1) for i in range(10)] + [-1.0] * 10 + [1.0] * 11
    found = suggest(_curve(changes))
    # The slope is the same all along the fall once the window is inside; the first one counts.
    assert 1e-3 <= found.steepest <= 1e-2
    assert 1e-2 <= found.lowest <= 1e-1
    # At step 49 the average is of three times -1 and twice 1: -0.2, above -0.5; at 48 it is -0.6.
    assert found.diverged == pytest.approx(Rising(1e-6, 1.0, 61)(49))
    assert found.suggested == found.diverged / 10


def test_without_a_rise_the_steepest_place_is_suggested():
    found = suggest(_curve([0.0] * 10 + [-0.1 * i for i in range(10)]))
    assert found.diverged is None
    assert found.suggested == found.steepest


def test_the_steepest_place_is_found_exactly():
    changes = [0.0] * 20 + [-0.5] * 10 + [-0.6] * 10 + [0.9] * 5
    curve = _curve(changes)
    found = suggest(curve)
    # Averages of five: the step from 0 to -0.5 is spread over steps 18 to 21.
    assert curve[18].rate <= found.steepest <= curve[21].rate


def test_a_loss_that_hardly_falls_suggests_nothing():
    assert suggest(_curve([0.0, -0.01] * 10)).suggested is None
    assert suggest([]).suggested is None


@pytest.mark.parametrize(("loss", "ruined"), [(nan, True), (3.5, True), (2.9, False)])
def test_a_model_that_is_ruined_ends_the_test(loss, ruined):
    assert Point(1e-3, loss, 2.0).ruined is ruined


def test_a_loss_that_is_no_number_counts_as_the_limit():
    assert smoothed([Point(1e-3, nan, 2.0)]) == [1.0]
