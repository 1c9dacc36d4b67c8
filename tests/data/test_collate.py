"""Batches by hand: positions, labels, masks; no label crosses from one example to the next."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.collate import collate
from tunesmith.data.example import IGNORE, Batch, Example


def example(ids: list[int], trained: list[int], row: int = 1) -> Example:
    mask = np.isin(np.arange(len(ids)), trained)
    return Example(np.array(ids, dtype=np.int32), mask, "a.jsonl", row)


FIRST, SECOND = example([5, 6, 7, 8], [2, 3], row=1), example([9, 10, 11], [1], row=4)
X = IGNORE


def test_a_packed_batch_by_hand() -> None:
    batch = collate([FIRST, SECOND], packed=True, pad_id=0)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 10, 11]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert batch.labels.tolist() == [[X, 7, 8, X, 10, X, X]]
    assert batch.lengths == (4, 3)
    assert batch.attention_mask is None
    assert batch.packed
    assert batch.rows == (("a.jsonl", 1), ("a.jsonl", 4))
    assert batch.num_trained == 3
    assert batch.num_tokens == 7
    assert {batch.input_ids.dtype, batch.positions.dtype, batch.labels.dtype} == {torch.int64}


def test_a_padded_batch_by_hand() -> None:
    batch = collate([FIRST, SECOND], packed=False, pad_id=99)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8], [9, 10, 11, 99]]
    assert batch.positions.tolist() == [[0, 1, 2, 3], [0, 1, 2, 0]]
    assert batch.labels.tolist() == [[X, 7, 8, X], [10, X, X, X]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert not batch.packed
    assert batch.num_trained == 3
    assert batch.num_tokens == 7


def test_one_token_has_no_label() -> None:
    assert collate([example([5], [])], packed=True, pad_id=0).labels.tolist() == [[X]]


def test_no_examples_are_no_batch() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        collate([], packed=True, pad_id=0)


def test_the_examples_are_not_changed() -> None:
    batch = collate([FIRST], packed=True, pad_id=0)
    batch.input_ids.add_(1)
    assert FIRST.input_ids.tolist() == [5, 6, 7, 8]


def targets(batch: Batch) -> list[tuple[int, int, int]]:
    """(position, input, label) of all trained positions, in order."""
    at = batch.labels != IGNORE
    columns = (batch.positions[at], batch.input_ids[at], batch.labels[at])
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
    assert (collate(rows, True, 301).labels[0, ends] == IGNORE).all()
