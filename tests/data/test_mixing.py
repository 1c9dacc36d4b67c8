"""Sizes evened out, replay at even distances, one of several phrasings: by hand, and as laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.mixing import evened, phrased, with_replay
from tunesmith.data.order import Schedule


def test_temperature_one_without_a_cap_changes_nothing() -> None:
    assert evened([900, 100], [1.0, 2.5], 1.0, None) == pytest.approx((1.0, 2.5))


def test_temperature_two_takes_the_square_roots_of_the_sizes() -> None:
    # Roots 30 and 10, so 3/4 and 1/4 of an epoch of 1,000 rows: 750 and 250.
    assert evened([900, 100], [1.0, 1.0], 2.0, None) == pytest.approx((750 / 900, 250 / 100))


def test_a_cap_makes_larger_files_count_alike() -> None:
    # 100 and 100 after the cap: half of 1,000 rows each.
    assert evened([900, 100], [1.0, 1.0], 1.0, 100) == pytest.approx((500 / 900, 500 / 100))


def test_weights_act_on_the_shares() -> None:
    # Rates 1 x 10 and 3 x 10; an epoch is 100 + 300 rows long by the weights alone.
    assert evened([100, 100], [1.0, 3.0], 2.0, None) == pytest.approx((1.0, 3.0))


def test_replayed_rows_stand_at_even_distances() -> None:
    order = with_replay(np.arange(6), 3, 0.25, 0, 0)
    assert (order < 0).nonzero()[0].tolist() == [3, 7]
    assert order[order >= 0].tolist() == list(range(6))
    thirds = with_replay(np.arange(4), 3, 1 / 3, 0, 0)
    assert (thirds < 0).nonzero()[0].tolist() == [2, 5]


@given(st.integers(1, 200), st.integers(1, 30), st.floats(0.01, 0.95), st.integers(0, 5))
def test_any_stretch_has_its_share_and_no_row_comes_twice_before_all_came(
    rows: int, kept: int, share: float, epoch: int
) -> None:
    order = with_replay(np.arange(rows), kept, share, 7, epoch)
    replayed = np.cumsum(order < 0)
    expected = share * np.arange(1, len(order) + 1)
    assert np.all(replayed <= expected + 1e-6)
    assert np.all(replayed > expected - 1 - 1e-6)
    drawn = -1 - order[order < 0]
    assert all(
        len(set(part)) == len(part) for part in np.split(drawn, range(kept, len(drawn), kept))
    )
    assert order[order >= 0].tolist() == list(range(rows))


def test_the_order_of_replay_is_new_in_every_epoch_and_the_same_when_asked_again() -> None:
    orders = [with_replay(np.arange(40), 50, 0.5, 3, epoch).tolist() for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]


def test_one_phrasing_of_each_row_is_drawn_and_all_come_in_time() -> None:
    begins = np.array([0, 3, 4, 6])  # Rows of three, one and two phrasings.
    seen = [phrased(np.array([2, 0, 1]), begins, 0, epoch) for epoch in range(40)]
    for drawn in seen:
        assert [np.searchsorted(begins, x, side="right") - 1 for x in drawn] == [2, 0, 1]
    assert {int(x) for drawn in seen for x in drawn} == set(range(6))
    assert phrased(np.array([2, 0, 1]), begins, 0, 5).tolist() == seen[5].tolist()


def test_a_schedule_replays_behind_the_files_in_every_step() -> None:
    made = Schedule(
        np.full(20, 5), [12], [1.0], seed=1, batch_rows=4, epochs=2.0,
        replay_rows=8, replay_share=0.25,
    )  # fmt: skip
    assert made.num_steps == 8
    steps = [made.examples(step) for step in range(8)]
    assert all((step >= 12).sum() == 1 for step in steps)
    first = np.concatenate(steps[:4])
    assert sorted(first[first < 12].tolist()) == list(range(12))


def test_a_schedule_draws_phrasings_of_files_and_of_replay_alike() -> None:
    begins = np.array([0, 2, 4, 6, 7])  # Three rows of two phrasings, and one to replay.
    made = Schedule(
        np.full(7, 5), [3], [1.0], batch_rows=4, epochs=1.0,
        replay_rows=1, replay_share=0.25, phrasings=begins,
    )  # fmt: skip
    assert sorted(made.rows_of(made.examples(0)).tolist()) == [0, 1, 2, 3]
