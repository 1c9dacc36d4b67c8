"""Files to rows: one shape a file, and what becomes of the rows that differ."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.data.reading import read_file
from tunesmith.data.row import RowProblem, Text
from tunesmith.errors import DataError, RecipeError

TEXT, PAIR = {"text": "t"}, {"prompt": "p", "completion": "c"}


def test_rows_carry_their_place_and_what_stood_there(write_rows) -> None:
    path = write_rows([TEXT, {**TEXT, "id": 7}])
    rows = list(read_file(path))
    assert [row.content for row in rows] == [Text("t"), Text("t")]
    assert [(row.source, row.number, row.shape) for row in rows] == [
        (str(path), 1, "text"),
        (str(path), 2, "text"),
    ]
    assert rows[1].raw == {"text": "t", "id": 7}


def test_mixed_shapes_name_the_first_row_that_differs(write_rows) -> None:
    path = write_rows([TEXT, TEXT, PAIR, PAIR])
    with pytest.raises(DataError, match=r"rows\.jsonl:3: got a row of shape completion") as got:
        list(read_file(path))
    assert "'prompt', 'completion'" in got.value.got
    assert got.value.expected == "shape text, as since row 1: one file has one shape"


def test_mixed_shapes_are_refused_even_where_bad_rows_are_skipped(write_rows) -> None:
    with pytest.raises(DataError, match="a row of shape completion"):
        list(read_file(write_rows([TEXT, PAIR]), on_bad=lambda *bad: None))


def test_no_shape_is_an_error_with_the_place(write_rows) -> None:
    with pytest.raises(
        DataError, match=r"rows\.csv: row 1: got the keys 'mr', 'ref'; expected the"
    ):
        list(read_file(write_rows("mr,ref\na,b\n", "rows.csv")))


def test_a_row_without_the_keys_is_bad_and_can_be_skipped(write_rows) -> None:
    bad: list[tuple[str, int, RowProblem]] = []
    path = write_rows([{"x": 1}, TEXT, {}, {"text": ""}, TEXT])
    rows = list(read_file(path, on_bad=lambda *found: bad.append(found)))
    assert [row.number for row in rows] == [2, 5]
    assert [(source, number) for source, number, _ in bad] == [(str(path), n) for n in (1, 3, 4)]
    with pytest.raises(DataError, match=r":1: got the keys 'x'"):
        list(read_file(path))


def test_a_shape_that_is_named_is_the_one_that_is_read(write_rows) -> None:
    path = write_rows([{**PAIR, **TEXT}])
    assert [row.shape for row in read_file(path)] == ["completion"]
    assert [row.content for row in read_file(path, "text")] == [Text("t")]
    with pytest.raises(DataError, match=r"got the keys .*; expected the shape chat \(messages"):
        list(read_file(path, "chat"))
    with pytest.raises(RecipeError, match="got 'prose'; expected one of alpaca, chat"):
        list(read_file(path, "prose"))


CHAT = [
    {
        "messages": [
            {"role": "user", "content": "q, \u00e9"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"name": "f", "arguments": "{}"}],
            },
            {"role": "tool", "content": "3"},
            {"role": "assistant", "content": 'say "a"\n'},
        ],
        "tools": [{"name": "f"}],
    },
    {"messages": [{"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}]},
]
ALPACA = [
    {"instruction": "i, j", "input": "", "output": "o\no"},
    {"instruction": "i", "input": "k", "output": "1"},
]


@pytest.mark.parametrize("rows", [CHAT, ALPACA, [{"text": "t"}] * 3, [PAIR] * 2])
@pytest.mark.parametrize("kind", ["json", "csv", "parquet"])
def test_all_kinds_of_file_say_the_same(write_rows, tmp_path: Path, rows: list, kind: str) -> None:
    path = tmp_path / f"other.{kind}"
    if kind == "json":
        path.write_text(json.dumps(rows, indent=1))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            for row in rows:
                cells = {k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()}
                writer.writerow(cells)
    expected = [(row.content, row.shape) for row in read_file(write_rows(rows))]
    assert [(row.content, row.shape) for row in read_file(path)] == expected
