"""Rows in several phrasings on disk: counted once, one example each time."""

from pathlib import Path

import numpy as np
import pytest

from tunesmith.data.contract import check
from tunesmith.data.prepared import Prepared
from tunesmith.data.section import Source, names_of
from tunesmith.data.store import PrepareOptions, prepare


@pytest.fixture
def prepared(write_rows, renderer, tmp_path: Path) -> Prepared:
    """A file of two rows in three phrasings, and a plain one."""
    rows = [{"text": f"t{n}", "label": "l"} for n in range(2)]
    sources = [
        Source(
            path=str(write_rows(rows, "p.jsonl")),
            columns={"completion": "label"},
            phrasings=["1 {text}", "22 {text}", "333 {text}"],
        ),
        Source(path=str(write_rows([{"prompt": "q", "completion": "a"}], "plain.jsonl"))),
    ]
    return prepare(sources, renderer, PrepareOptions(2048), tmp_path / "cache")


def test_phrasings_are_examples_of_one_row(prepared: Prepared) -> None:
    assert len(prepared) == 7
    assert prepared.rows_per_file == (2, 1)
    assert prepared.counts.rows == 3
    assert prepared.phrasings.tolist() == [0, 3, 6, 7]
    assert prepared.place(5) == (prepared.files[0].path, 2)
    assert np.diff(prepared.lengths[:3]).tolist() == [1, 1]


def test_the_contract_holds_for_all_of_them(prepared: Prepared, renderer) -> None:
    found = {c.name: c for c in check(prepared, None, renderer)}
    assert found["prompt parity"].says.startswith("100.0% of 3 examples")
    assert found["stop token"].ok


def test_an_overlong_phrasing_leaves_the_others(write_rows, renderer, tmp_path: Path) -> None:
    path = write_rows([{"text": "t", "completion": "l"}])
    source = Source(path=str(path), phrasings=["x" * 400 + "{text}", "a {text}", "b {text}"])
    options = PrepareOptions(100, overlong="drop")
    prepared = prepare([source], renderer, options, tmp_path / "cache")
    assert prepared.phrasings.tolist() == [0, 2]
    assert prepared.rows_per_file == (1,)
    assert prepared.counts.dropped == 1


def test_names_are_given_or_those_of_files_or_paths_that_differ() -> None:
    sources = [
        Source(path="a/train.jsonl"), Source(path="b/train.jsonl"),
        Source(path="c/other.csv"), Source(path="c/x.csv", name="mine"),
    ]  # fmt: skip
    assert names_of(sources) == ["a/train.jsonl", "b/train.jsonl", "other", "mine"]
