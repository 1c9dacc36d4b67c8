"""The planner: every example once, limits kept, passes even, padding small."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.order import epoch_order
from tunesmith.data.planner import ATTENTION_TOKENS, PASS_COST, Layout, costs, deal

LENGTHS = st.lists(st.integers(1, 3000), min_size=1, max_size=24).map(np.array)
LIMIT = st.none() | st.integers(1, 24)
TOKENS = st.none() | st.integers(1, 6000)
TICKETS = Path(__file__).parents[2] / "examples" / "tickets" / "train.jsonl"
ALPACA = Path("/work/shared/data/llamafactory_demo/alpaca_en_demo.json")


def test_costs_by_hand() -> None:
    assert ATTENTION_TOKENS == 4096
    assert costs(np.array([64, 4096])).tolist() == [65.0, 8192.0]


@given(LENGTHS, LIMIT, TOKENS, TOKENS, st.booleans())
def test_every_example_comes_once_and_limits_are_kept(lengths, rows, tokens, best, packed) -> None:
    passes = Layout(packed, rows, tokens, best).passes(lengths)
    assert sorted(np.concatenate(passes).tolist()) == list(range(len(lengths)))
    for each in passes:
        cells = lengths[each].sum() if packed else lengths[each].max() * len(each)
        assert each.tolist() == sorted(each.tolist())
        assert rows is None or len(each) <= rows
        assert tokens is None or len(each) == 1 or cells <= tokens


@given(LENGTHS, LIMIT, TOKENS, st.booleans())
def test_the_first_pass_costs_most_and_no_more_than_the_bound(lengths, rows, tokens, packed):
    layout = Layout(packed, rows, tokens)
    found = [layout.cost(lengths[each]) for each in layout.passes(lengths)]
    assert found == sorted(found, reverse=True)
    before = np.array([5, 7])
    steps = layout.most(np.concatenate([before, lengths]), np.array([0, 2]))
    assert found[0] <= steps[1] * (1 + 1e-9)


@given(LENGTHS, LIMIT, st.booleans(), st.integers(0, 50))
def test_what_is_ahead_of_each_example_counts_as_its_own(lengths, rows, packed, ahead):
    layout, longer = Layout(packed, rows, 2000, ahead=ahead), Layout(packed, rows, 2000)
    got, expected = layout.passes(lengths), longer.passes(lengths + ahead)
    assert [each.tolist() for each in got] == [each.tolist() for each in expected]
    assert [layout.cost(lengths[each]) for each in got] == [
        longer.cost(lengths[each] + ahead) for each in got
    ]
    starts = np.array([0])
    assert layout.most(lengths, starts) == longer.most(lengths + ahead, starts)


@given(LENGTHS.filter(lambda lengths: len(lengths) < 9), st.integers(1, 3), st.integers(1, 8))
def test_dealing_comes_near_the_best_there_is(lengths, number: int, most_rows: int) -> None:
    most_rows = max(most_rows, -(-len(lengths) // number))
    cost = costs(lengths)
    dealt = deal(cost, number, most_rows)
    assert max(len(each) for each in dealt) <= most_rows
    owners = np.array(list(product(range(number), repeat=len(cost))))
    sums = np.stack([(owners == each) @ cost for each in range(number)], 1)
    rows = np.stack([(owners == each).sum(1) for each in range(number)], 1)
    optimum = sums[(rows <= most_rows).all(1)].max(1).min()
    # Exchanges of one against one find it but for the odd case that needs two at once.
    assert max(cost[each].sum() for each in dealt) <= 1.2 * optimum


def test_dealing_by_hand() -> None:
    passes = deal(np.array([7.0, 2.0, 6.0, 5.0, 4.0]), 2, 5)
    assert sorted(each.tolist() for each in passes) == [[0, 3], [1, 2, 4]]
    passes = deal(np.array([9.0, 1.0, 1.0, 1.0]), 2, 3)
    assert sorted(each.tolist() for each in passes) == [[0], [1, 2, 3]]


def test_as_few_packed_passes_as_the_limits_allow() -> None:
    lengths = np.full(8, 200)
    for layout, number in (
        (Layout(True), 1),
        (Layout(True, best_tokens=1600), 1),
        (Layout(True, best_tokens=1599), 2),
        (Layout(True, max_rows=4), 2),
        (Layout(True, max_rows=3, best_tokens=100), 8),
        (Layout(True, max_tokens=500), 4),
    ):
        assert len(layout.passes(lengths)) == number, layout


def test_padded_passes_by_hand() -> None:
    # Apart, the padding of 9 x 90 cells goes, for one more pass.
    lengths = np.array([100, 10, 10, 10, 10, 10, 10, 10, 10, 10])
    passes = Layout(False).passes(lengths)
    assert [each.tolist() for each in passes] == [[0], [1, 2, 3, 4, 5, 6, 7, 8, 9]]
    # Together, since a pass costs more than the padding that it would save.
    nearly = np.array([20 + PASS_COST // 2 - 1, 20, 20])
    assert [each.tolist() for each in Layout(False).passes(nearly)] == [[0, 1, 2]]
    assert Layout(False).cost(np.array([64, 1])) == 2 * 65


def imbalance(lengths: np.ndarray, rows: int, layout: Layout) -> list[float]:
    """By step of one epoch, what the fullest pass costs over the mean, less 1."""
    order = epoch_order([len(lengths)], [1.0], 0, 0)
    found = []
    for start in range(0, len(order) - rows + 1, rows):
        step = lengths[order[start : start + rows]]
        cost = [layout.cost(step[each]) for each in layout.passes(step)]
        found.append(max(cost) / np.mean(cost) - 1)
    return found


def characters(rows: list[dict]) -> np.ndarray:
    """Lengths of rows in units of four characters, about a token each."""
    return np.array([sum(map(len, map(str, row.values()))) // 4 for row in rows])


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_wait_less_than_two_percent_of_a_step_of_tickets(ranks: int) -> None:
    rows = [json.loads(line) for line in TICKETS.read_text(encoding="utf-8").splitlines()]
    lengths = characters([{"": row["messages"]} if "messages" in row else row for row in rows])
    waits = imbalance(lengths, 8 * ranks, Layout(True, max_rows=8))
    assert np.mean(waits) < 0.02
    assert np.percentile(waits, 90) < 0.02


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_wait_less_than_two_percent_of_a_step_of_alpaca(ranks: int) -> None:
    if not ALPACA.is_file():
        pytest.skip(f"needs {ALPACA}")
    lengths = characters(json.loads(ALPACA.read_text(encoding="utf-8")))
    waits = imbalance(lengths, 8 * ranks, Layout(True, max_rows=16))
    assert np.mean(waits) < 0.02
    assert np.percentile(waits, 90) < 0.02
