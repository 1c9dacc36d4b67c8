"""The order of examples: a permutation, a pure function of seed and epoch; batches in it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.order import Schedule, epoch_order, plan_batches
from tunesmith.errors import RecipeError

LENGTHS = np.random.default_rng(0).integers(1, 60, 101)


def schedule(**more: object) -> Schedule:
    options = {"lengths": LENGTHS, "rows_per_file": [101], "weights": [1.0], "epochs": 3.0}
    return Schedule(**(options | more))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=4), st.integers(0, 2**40))
def test_the_order_is_a_permutation(files: list[int], seed: int) -> None:
    order = epoch_order(files, [1.0] * len(files), seed, 0)
    assert sorted(order.tolist()) == list(range(sum(files)))


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    orders = {(s, e): epoch_order([100], [1.0], s, e).tolist() for s in (0, 1) for e in (0, 1)}
    assert len({tuple(order) for order in orders.values()}) == 4
    np.random.seed(1)
    assert epoch_order([100], [1.0], 1, 1).tolist() == orders[1, 1]


def test_the_order_is_the_same_in_every_release() -> None:
    # Written down: a change here would make resumed runs see other data.
    assert epoch_order([6, 4], [1.0, 1.0], 42, 3).tolist() == [0, 8, 6, 5, 1, 3, 7, 4, 2, 9]


def test_a_weight_gives_copies_and_a_share() -> None:
    order = epoch_order([10, 10, 10], [2.0, 0.5, 1.25], 0, 0)
    times = np.bincount(order, minlength=30)
    assert times[:10].tolist() == [2] * 10
    assert sorted(times[10:20].tolist()) == [0] * 5 + [1] * 5
    assert times[20:].min() == 1
    assert times[20:].sum() == 12
    later = np.bincount(epoch_order([10, 10, 10], [2.0, 0.5, 1.25], 0, 1), minlength=30)
    assert later[10:20].tolist() != times[10:20].tolist()


def test_files_are_mixed() -> None:
    order = epoch_order([500, 500], [1.0, 1.0], 0, 0)
    first_half = (order[:500] < 500).sum()
    assert 200 < first_half < 300


def test_batches_of_rows() -> None:
    assert plan_batches(LENGTHS, np.arange(7), 3, None).tolist() == [0, 3, 6, 7]


def test_batches_of_tokens_by_hand() -> None:
    lengths = np.array([4, 4, 3, 99, 1, 10, 1])
    assert plan_batches(lengths, np.arange(7), None, 10).tolist() == [0, 2, 3, 4, 5, 6, 7]
    assert plan_batches(lengths, np.array([2, 1, 0, 4]), None, 11).tolist() == [0, 3, 4]
    assert plan_batches(lengths, np.array([], dtype=np.int64), None, 11).tolist() == [0]


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 50))
def test_batches_of_tokens_keep_the_budget_and_all_rows(lengths: list[int], budget: int) -> None:
    array = np.array(lengths, dtype=np.int64)
    order = np.arange(len(lengths))[::-1]
    bounds = plan_batches(array, order, None, budget)
    batches = [order[a:b] for a, b in pairwise(bounds)]
    assert [row for batch in batches for row in batch] == order.tolist()
    for number, batch in enumerate(batches):
        assert len(batch) == 1 or array[batch].sum() <= budget
        if number + 1 < len(batches):
            assert array[batch].sum() + array[batches[number + 1][0]] > budget


@pytest.mark.parametrize(("rows", "tokens"), [(None, None), (2, 100)])
def test_one_kind_of_budget_is_needed(rows: int | None, tokens: int | None) -> None:
    with pytest.raises(RecipeError, match="expected one of the two"):
        plan_batches(LENGTHS, np.arange(4), rows, tokens)
    with pytest.raises(RecipeError, match="expected one of the two"):
        schedule(batch_rows=2, epochs=1.0, steps=3)


@pytest.mark.parametrize("budget", [{"batch_rows": 4}, {"batch_tokens": 200}])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_every_row_comes_once_an_epoch_and_steps_never_mix_epochs(
    budget: dict, accumulate: int
) -> None:
    plan = schedule(accumulate=accumulate, **budget)
    seen: dict[int, list[int]] = {}
    for step in range(plan.num_steps):
        examples = plan.examples(step).tolist()
        assert len(examples) <= accumulate * budget.get("batch_rows", 101)
        assert LENGTHS[examples].sum() <= accumulate * budget.get("batch_tokens", 10**6)
        seen.setdefault(plan.epoch_of(step), []).extend(examples)
    assert sorted(seen) == [0, 1, 2]
    for rows in seen.values():
        assert sorted(rows) == list(range(101))
    assert seen[0] != seen[1]


@pytest.mark.parametrize("budget", [{"batch_rows": 4}, {"batch_tokens": 200}])
def test_seeking_gives_what_walking_gives(budget: dict) -> None:
    walked = schedule(accumulate=2, **budget)
    steps = [walked.examples(step).tolist() for step in range(walked.num_steps)]
    for step in reversed(range(len(steps))):
        assert schedule(accumulate=2, **budget).examples(step).tolist() == steps[step]
        assert walked.examples(step).tolist() == steps[step]


def test_accumulation_groups_the_batches_of_an_epoch() -> None:
    single = schedule(batch_rows=10, epochs=1.0)
    grouped = schedule(batch_rows=10, epochs=1.0, accumulate=4)
    assert [len(grouped.examples(step)) for step in range(grouped.num_steps)] == [40, 40, 21]
    assert [len(single.examples(step)) for step in range(single.num_steps)] == [10] * 10 + [1]
    for plan in (single, grouped):
        flat = np.concatenate([plan.examples(step) for step in range(plan.num_steps)])
        assert flat.tolist() == epoch_order([101], [1.0], 0, 0).tolist()


def test_rows_times_accumulate_says_which_examples_a_step_has() -> None:
    one = schedule(batch_rows=12, epochs=2.0)
    for rows, accumulate in ((6, 2), (3, 4), (1, 12)):
        other = schedule(batch_rows=rows, accumulate=accumulate, epochs=2.0)
        assert other.num_steps == one.num_steps
        for step in range(one.num_steps):
            assert other.examples(step).tolist() == one.examples(step).tolist()


@pytest.mark.parametrize(
    ("epochs", "steps"), [(1.0, 11), (0.5, 6), (0.01, 1), (2.0, 22), (1.5, 17), (2.3, 25)]
)
def test_epochs_may_be_a_fraction(epochs: float, steps: int) -> None:
    plan = schedule(batch_rows=10, epochs=epochs)
    assert plan.num_steps == steps
    whole = schedule(batch_rows=10, epochs=3.0)
    for step in range(steps):
        assert plan.examples(step).tolist() == whole.examples(step).tolist()


def test_steps_run_over_as_many_epochs_as_they_need() -> None:
    plan = schedule(batch_rows=10, epochs=None, steps=25)
    assert plan.num_steps == 25
    assert [plan.epoch_of(step) for step in (0, 10, 11, 21, 22, 24)] == [0, 0, 1, 1, 2, 2]
    assert plan.locate(24) == (2, 2)
    with pytest.raises(IndexError):
        plan.locate(-1)


def test_a_weight_that_leaves_no_row_is_refused() -> None:
    with pytest.raises(RecipeError, match="the weights are too small for so few rows"):
        schedule(lengths=LENGTHS[:3], rows_per_file=[3], weights=[0.1], batch_rows=2)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 300))
def test_no_step_is_empty(seed: int, accumulate: int, budget: int) -> None:
    plan = schedule(seed=seed, accumulate=accumulate, batch_tokens=budget, epochs=1.0)
    for step in range(plan.num_steps):
        assert len(plan.examples(step))
