import math

import numpy as np
import pytest

from tunesmith.errors import DataError, RunError
from tunesmith.evaluate import statistics
from tunesmith.evaluate.statistics import Interval, paired_bootstrap


@pytest.mark.parametrize("kind", ["scores", "losses", "per token"])
def test_the_interval_holds_the_truth_as_often_as_it_says(kind):
    rng = np.random.default_rng(12)
    num_sets, num_rows, held = 300, 60, 0
    for number in range(num_sets):
        hardness = rng.random(num_rows)
        counts = None
        if kind == "scores":
            # A row is right with probability h before and (1 + h) / 2 after: 1/4 more on average.
            before = rng.random(num_rows) < hardness
            after = rng.random(num_rows) < (1 + hardness) / 2
            truth = 0.25
        elif kind == "losses":
            before = 3 * hardness
            after = before - rng.exponential(0.4, num_rows)
            truth = -0.4
        else:
            counts = rng.integers(1, 40, num_rows)
            before = counts * hardness
            after = before + counts * rng.normal(0.1, 0.5, num_rows)
            truth = 0.1
        got = paired_bootstrap(before, after, counts=counts, seed=number, resamples=1000)
        held += got.low <= truth <= got.high
    assert 0.90 <= held / num_sets <= 0.99


def test_pairing_removes_what_makes_rows_hard():
    rng = np.random.default_rng(0)
    before = 10 * rng.random(50)
    after = before + 0.1 + 0.01 * rng.standard_normal(50)
    got = paired_bootstrap(before, after)
    assert 0.09 < got.low < got.mean < got.high < 0.11


def test_the_same_seed_gives_the_same_interval_and_another_another():
    rng = np.random.default_rng(0)
    before, after = rng.random(40), rng.random(40)
    assert paired_bootstrap(before, after, seed=5) == paired_bootstrap(before, after, seed=5)
    assert paired_bootstrap(before, after, seed=5) != paired_bootstrap(before, after, seed=6)


def test_chunks_do_not_change_the_interval(monkeypatch):
    rng = np.random.default_rng(0)
    before, after = rng.random(40), rng.random(40)
    whole = paired_bootstrap(before, after, resamples=1000)
    monkeypatch.setattr(statistics, "CHUNK_NUMBERS", 7 * 40)
    assert paired_bootstrap(before, after, resamples=1000) == whole


def test_the_interval_of_all_resamples_of_two_rows():
    # Two rows that differ by 0 and 1: means 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4.
    got = paired_bootstrap([0, 0], [0, 1], level=0.4)
    assert got == Interval(0.5, 0.5, 0.5)
    assert paired_bootstrap([0, 0], [0, 1], level=0.6) == Interval(0.5, 0.0, 1.0)


def test_a_wider_level_gives_a_wider_interval():
    rng = np.random.default_rng(0)
    before, after = rng.random(40), rng.random(40)
    narrow, wide = (paired_bootstrap(before, after, level=level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high
    assert narrow.mean == wide.mean == pytest.approx((after - before).mean())


def test_one_row_gives_a_point():
    assert paired_bootstrap([1.5], [2.0]) == Interval(0.5, 0.5, 0.5)


def test_rows_that_all_differ_alike_give_a_point():
    assert paired_bootstrap([1.0, 2.0, 5.0], [1.5, 2.5, 5.5]) == Interval(0.5, 0.5, 0.5)


def test_with_counts_the_mean_is_per_token():
    got = paired_bootstrap([1.0, 10.0], [2.0, 40.0], counts=[1, 9])
    assert math.isclose(got.mean, (1 + 30) / 10)
    assert (got.low, got.high) == pytest.approx((1.0, 30 / 9))


def test_rows_without_tokens_do_not_divide_by_zero():
    got = paired_bootstrap([1.0, 0.0], [2.0, 0.0], counts=[2, 0])
    assert got == Interval(0.5, 0.0, 0.5)


@pytest.mark.parametrize("counts", [None, []])
def test_no_rows_is_an_error(counts):
    with pytest.raises(DataError, match="paired comparison: got no rows; expected at least one"):
        paired_bootstrap([], [], counts=counts)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_named(bad):
    with pytest.raises(RunError, match=rf"row 2: got 1\.0 before and {bad} after"):
        paired_bootstrap([0.0, 1.0], [0.0, bad])


@pytest.mark.parametrize("after", [[1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]]])
def test_arrays_that_are_not_paired_are_refused(after):
    with pytest.raises(ValueError, match="paired arrays of shapes"):
        paired_bootstrap([1.0, 2.0], after)
