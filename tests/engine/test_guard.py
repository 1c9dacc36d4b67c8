"""What the guard rejects, when it goes back, and what it remembers."""

import json
import math

import pytest

from tunesmith.checkpoint import values
from tunesmith.engine.guard import MAX_RETURNS, PATIENCE, PROOF, Guard
from tunesmith.engine.window import ACTIVE, FIRST, LENGTH, Window


def fed(losses, norm=1.0, num_steps=1000):
    """A guard that has accepted steps with these losses."""
    guard = Guard(num_steps)
    for step, loss in enumerate(losses):
        assert guard.judge(loss, norm) == ""
        guard.accept(step, loss, norm)
    return guard


def test_the_limit_by_hand():
    window = Window(least=0.1)
    for value in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0):
        window.add(value)
    assert window.limit is None
    window.add(8.0)
    # Median 4.5, distances 0.5 0.5 1.5 1.5 2.5 2.5 3.5 3.5, so a MAD of 2; twice as wide at first.
    assert window.limit == pytest.approx(4.5 + 2 * 8 * 1.4826 * 2)
    for _ in range(LENGTH):
        window.add(4.5)
    assert window.limit == pytest.approx(4.5 + 0.1)


def test_what_a_run_began_with_is_never_unusual():
    window = Window(least=1.0)
    for value in [3.0] * FIRST + [0.01] * LENGTH:
        window.add(value)
    assert window.values == [0.01] * LENGTH
    assert window.limit == pytest.approx(3.0 + 1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_rejected_from_the_first_step_on(bad):
    assert "not finite" in Guard(10).judge(bad, 1.0)
    assert "not finite" in Guard(10).judge(1.0, bad)
    assert "not finite" in Guard(10, outliers=False).judge(bad, 1.0)


def test_an_outlier_is_rejected_and_only_on_the_high_side():
    guard = fed([1.4 + 0.1 * (i % 3) for i in range(ACTIVE)])
    assert "loss 11, beyond" in guard.judge(11.0, 1.0)
    assert "gradient norm 1000, beyond" in guard.judge(1.5, 1000.0)
    assert guard.judge(0.0, 0.0) == ""
    assert guard.judge(2.0, 5.0) == ""
    guard.outliers = False
    assert guard.judge(11.0, 1000.0) == ""


def test_a_spike_is_seen_after_a_few_steps_and_none_before():
    guard = fed([1.4, 1.5, 1.3, 1.6, 1.4, 1.5, 1.2])
    assert guard.judge(11.0, 1.0) == ""
    guard.accept(7, 1.4, 1.0)
    assert guard.judge(11.0, 1.0) != ""


def test_a_rejected_loss_never_enters_the_window():
    guard = fed([1.0] * ACTIVE)
    before = guard.losses.limit
    for _ in range(100):
        guard.reject([1])
        guard.accept(99, 1.0, 1.0)
    assert guard.losses.limit == before


def test_the_budget():
    guard = fed([1.0], num_steps=1000)
    for _ in range(PATIENCE - 1):
        guard.reject([])
    assert not guard.exhausted
    guard.reject([])
    assert guard.exhausted == "3 steps in a row"
    guard.accept(1, 1.0, 1.0)
    for _ in range(7):
        guard.reject([])
        guard.accept(1, 1.0, 1.0)
        assert not guard.exhausted
    guard.reject([])
    assert guard.exhausted == "11 steps, more than 10"


def test_a_checkpoint_is_proved_by_later_steps():
    guard = Guard(100)
    guard.saved(0)
    assert (guard.healthy, guard.pending, guard.kept) == (0, None, {0})
    guard.accept(0, 1.0, 1.0)
    guard.saved(1)
    for step in range(1, PROOF):
        guard.accept(step, 1.0, 1.0)
        guard.saved(step + 1)
        assert guard.kept == {0, 1}
    guard.reject([])
    assert guard.healthy == 0
    guard.accept(PROOF, 1.0, 1.0)
    assert (guard.healthy, guard.kept) == (1, {1})
    guard.saved(PROOF + 1)
    assert guard.kept == {1, PROOF + 1}


def test_a_checkpoint_is_not_proved_by_a_ruined_model():
    guard = fed([1.0])
    guard.saved(1)
    for step in range(1, 4 * PROOF):
        guard.accept(step, 9.0, 1.0)
    assert guard.healthy == 0


def test_a_loss_that_stays_above_its_start_is_looked_at():
    guard = fed([1.0] + [2.5] * 15)
    assert guard.suspects(16)
    assert not guard.suspects(15)
    assert guard.ruined(2.5)
    assert guard.ruined(math.nan)
    assert not guard.ruined(1.2)
    # Its rows were easier than the others: that is known now.
    assert not guard.suspects(16)


def test_the_end_is_looked_at_when_the_last_steps_were_rejected_or_all():
    guard = fed([1.0] * 9, num_steps=10)
    assert not guard.suspects(10)
    guard.reject([])
    assert guard.suspects(10)
    assert Guard(10).suspects(10)
    assert Guard(10).ruined(1.0)


def test_going_back_forgets_losses_and_remembers_rows():
    guard = fed([1.0] * 20)
    guard.reject([5])
    guard.accept(21, 1.0, 1.0)
    state = guard.state()
    for examples in ([7, 8], [8, 9]):
        guard.reject(examples)
    guard.go_back(20, state)
    assert guard.left_out == [5, 7, 8, 9]
    assert (guard.rejected, guard.returns) == (3, 1)
    assert (guard.blamed, guard.in_a_row, guard.spent) == ([], 0, 0)
    assert guard.losses.num_seen == 21
    assert guard.kept == {20}
    assert MAX_RETURNS == 3


def test_the_whole_state_survives_a_checkpoint():
    guard = fed([1.0 + 0.1 * (i % 7) for i in range(300)], norm=0.3)
    guard.saved(300)
    guard.reject([3, 1])
    fresh = Guard(1000)
    fresh.load(values.load(values.dump(guard.state(), "test"), "test"))
    assert fresh == guard
    assert json.dumps(fresh.state()) == json.dumps(guard.state())
    empty = Guard(1000)
    empty.load(values.load(values.dump(Guard(1000).state(), "test"), "test"))
    assert empty == Guard(1000)


def test_a_step_without_a_gradient_says_nothing_of_the_norms():
    guard = Guard(100)
    for step in range(20):
        guard.accept(step, 0.0, 0.5 if step in (3, 7) else 0.0)
    assert guard.log_norms.num_seen == 2
    assert guard.judge(0.0, 0.6) == ""


def test_losses_that_say_nothing_of_the_model_are_judged_only_for_being_finite():
    guard = Guard(100, comparable=False)
    for step in range(32):
        guard.accept(step, float(step), 0.5)
    assert guard.judge(1e6, 0.5) == ""
    assert "not finite" in guard.judge(math.nan, 0.5)
    assert "gradient norm" in guard.judge(0.0, 1e6)
    assert not guard.suspects(32)
    assert not guard.suspects(100)
    assert "comparable" not in guard.state()
    assert Guard(100, comparable=False).suspects(100)
