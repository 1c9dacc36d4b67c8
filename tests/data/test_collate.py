"""Batches by hand: positions, targets, masks; no target crosses from one example to the next."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.collate import collate, collate_groups, num_shared
from tunesmith.data.example import Batch, Example


def example(ids: list[int], trained: list[int], row: int = 1) -> Example:
    mask = np.isin(np.arange(len(ids)), trained)
    return Example(np.array(ids, dtype=np.int32), mask, "a.jsonl", row)


FIRST, SECOND = example([5, 6, 7, 8], [2, 3], row=1), example([9, 10, 11], [1], row=4)


def test_a_packed_batch_by_hand() -> None:
    batch = collate([FIRST, SECOND], packed=True, pad_id=0)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 10, 11]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert batch.places.tolist() == [1, 2, 4]
    assert batch.targets.tolist() == [7, 8, 10]
    assert batch.targets_per_row == (2, 1)
    assert batch.lengths == (4, 3)
    assert batch.attention_mask is None
    assert batch.packed
    assert batch.rows == (("a.jsonl", 1), ("a.jsonl", 4))
    assert batch.num_trained == 3
    assert batch.num_tokens == 7
    tensors = (batch.input_ids, batch.positions, batch.places, batch.targets)
    assert {tensor.dtype for tensor in tensors} == {torch.int64}


def test_a_padded_batch_by_hand() -> None:
    batch = collate([FIRST, SECOND], packed=False, pad_id=99)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8], [9, 10, 11, 99]]
    assert batch.positions.tolist() == [[0, 1, 2, 3], [0, 1, 2, 0]]
    assert batch.places.tolist() == [1, 2, 4]
    assert batch.targets.tolist() == [7, 8, 10]
    assert batch.targets_per_row == (2, 1)
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert not batch.packed
    assert batch.num_trained == 3
    assert batch.num_tokens == 7


def test_one_token_has_no_target() -> None:
    batch = collate([example([5], [])], packed=True, pad_id=0)
    assert batch.targets.tolist() == []
    assert batch.targets_per_row == (0,)


def test_no_examples_are_no_batch() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        collate([], packed=True, pad_id=0)


def test_the_examples_are_not_changed() -> None:
    batch = collate([FIRST], packed=True, pad_id=0)
    batch.input_ids.add_(1)
    assert FIRST.input_ids.tolist() == [5, 6, 7, 8]


def targets(batch: Batch) -> list[tuple[int, int, int]]:
    """(position, input, target) of all trained tokens, in order."""
    at = batch.places
    columns = (batch.positions.flatten()[at], batch.input_ids.flatten()[at], batch.targets)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@st.composite
def examples(draw: st.DrawFn) -> Example:
    ids = draw(st.lists(st.integers(0, 300), min_size=1, max_size=9))
    trained = draw(st.lists(st.integers(1, 9), max_size=5))
    return example(ids, [index for index in trained if index < len(ids)])


@given(st.lists(examples(), min_size=1, max_size=5))
def test_packed_padded_and_alone_train_the_same(rows: list[Example]) -> None:
    expected = [
        (at - 1, int(row.input_ids[at - 1]), int(row.input_ids[at]))
        for row in rows
        for at in np.flatnonzero(row.trained)
    ]
    for packed in (True, False):
        batch = collate(rows, packed, pad_id=301)
        assert targets(batch) == expected
        assert batch.num_trained == len(expected)
    ends = np.cumsum([len(row) for row in rows]) - 1
    assert not np.isin(ends, collate(rows, True, 301).places.numpy()).any()


CHOSEN, REJECTED = example([5, 6, 7, 8, 9], [3, 4], row=2), example([5, 6, 7, 4], [3], row=2)


def test_a_pair_shares_its_prompt() -> None:
    batch = collate_groups([[FIRST], [CHOSEN, REJECTED]], packed=True, pad_id=0)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 5, 6, 7, 8, 9, 4]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 3, 4, 3]]
    assert batch.lengths == (4, 3, 2, 1)
    assert batch.prefixes == (None, None, 1, 1)
    assert batch.places.tolist() == [1, 2, 6, 7, 6]
    assert batch.targets.tolist() == [7, 8, 8, 9, 4]
    assert batch.targets_per_row == (2, 2, 1)
    assert batch.rows == (("a.jsonl", 1), ("a.jsonl", 2), ("a.jsonl", 2))
    assert batch.num_tokens == 10
    assert batch.num_trained == 5


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ([CHOSEN], 0),
        ([CHOSEN, REJECTED], 3),
        ([CHOSEN, example([5, 6, 7, 8, 9], [2])], 2),  # Ends before what any of them trains.
        ([CHOSEN, example([5, 6, 1, 8, 9], [3])], 2),
        ([CHOSEN, example([5, 6], [])], 1),  # A token of each is left.
        ([CHOSEN, example([1, 6, 7], [2])], 0),
        ([CHOSEN, CHOSEN, example([5, 1], [1])], 1),
    ],
)
def test_what_is_shared(group: list[Example], expected: int) -> None:
    assert num_shared(group) == expected


def test_padded_groups_share_nothing() -> None:
    batch = collate_groups([[CHOSEN, REJECTED], []], packed=False, pad_id=0)
    alone = collate([CHOSEN, REJECTED], packed=False, pad_id=0)
    assert batch.prefixes is None
    assert batch.input_ids.tolist() == alone.input_ids.tolist()
    assert batch.places.tolist() == alone.places.tolist() == [2, 3, 7]


def test_empty_groups_are_no_batch() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        collate_groups([[], []], packed=True, pad_id=0)


@st.composite
def groups(draw: st.DrawFn) -> list[Example]:
    """Examples that begin alike more often than not."""
    start = draw(st.lists(st.integers(0, 2), max_size=6))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        ids = start[: draw(st.integers(0, 6))] + draw(st.lists(st.integers(0, 2), min_size=1))
        trained = draw(st.lists(st.integers(1, 9), max_size=5))
        rows.append(example(ids, [index for index in trained if index < len(ids)]))
    return rows


def seen(batch: Batch) -> list[tuple[list[int], int]]:
    """For each target the tokens that it is predicted from, and its id."""
    ids = batch.input_ids[0].split(list(batch.lengths))
    before = batch.prefixes or [None] * len(ids)
    shared = [[] if p is None else ids[p].tolist() for p in before]
    whole = [prefix + own.tolist() for prefix, own in zip(shared, ids, strict=True)]
    segment = np.repeat(np.arange(len(ids)), batch.lengths)[batch.places.numpy()]
    until = batch.positions[0, batch.places].tolist()
    contexts = [whole[s][: at + 1] for s, at in zip(segment, until, strict=True)]
    return list(zip(contexts, batch.targets.tolist(), strict=True))


@given(st.lists(groups(), min_size=1, max_size=3))
def test_shared_or_not_the_same_is_predicted_from_the_same(made: list[list[Example]]) -> None:
    rows = [row for group in made for row in group]
    shared, alone = collate_groups(made, True, 0), collate(rows, True, 0)
    assert seen(shared) == seen(alone)
    assert shared.targets_per_row == alone.targets_per_row
    saved = sum(num_shared(group) * (len(group) - 1) for group in made)
    assert shared.num_tokens == alone.num_tokens - saved
