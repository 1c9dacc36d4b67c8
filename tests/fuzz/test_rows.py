"""Whatever is in a data file: rows, or an error that names the file."""

import csv
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.fuzzed import answers, fuzzed
from tests.fuzz.strategies import ROWS, VALUES, as_json, with_byte_faults, with_faults
from tunesmith.data import shapes
from tunesmith.data.contract import FATAL, check
from tunesmith.data.reading import read_file
from tunesmith.data.row import Content, Conversation, Row, RowProblem, Text
from tunesmith.data.section import Source
from tunesmith.data.store import PrepareOptions, prepare
from tunesmith.data.strict_json import MAX_DEPTH, parse
from tunesmith.data.template import Renderer
from tunesmith.errors import TunesmithError
from tunesmith.testing.tiny import byte_tokenizer

FAULTY_ROWS = st.one_of(with_faults(ROWS), st.dictionaries(st.text(max_size=5), VALUES))
JSONL = st.lists(FAULTY_ROWS, min_size=1, max_size=4).map(
    lambda rows: b"\n".join(as_json(row) for row in rows)
)
ARRAY = st.lists(FAULTY_ROWS, max_size=4).map(as_json)


def read_bytes(data: bytes, ending: str) -> None:
    """Read a file with these bytes, stopping at bad rows and passing over them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{ending}"
        path.write_bytes(data)
        found = answers(lambda: list(read_file(path)), str(path))
        problems: list[int] = []
        passed = answers(
            lambda: list(read_file(path, on_bad=lambda _, number, __: problems.append(number))),
            str(path),
        )
    for rows in (found, passed):
        if not isinstance(rows, TunesmithError):
            _check_rows(rows)
    if isinstance(passed, TunesmithError):
        assert isinstance(found, TunesmithError), "an error that on_bad brings about"


def _check_rows(rows: list[Row]) -> None:
    numbers = [row.number for row in rows]
    assert numbers == sorted(set(numbers))
    for row in rows:
        assert isinstance(row.content, Conversation | Text)
        json.dumps(row.raw, ensure_ascii=False, default=str).encode()


@fuzzed
@given(with_byte_faults(JSONL))
def test_jsonl(data: bytes) -> None:
    read_bytes(data, ".jsonl")


@fuzzed
@given(with_byte_faults(st.one_of(ARRAY, JSONL)))
def test_json(data: bytes) -> None:
    read_bytes(data, ".json")


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    """Rows as CSV: lists and objects as JSON in their cells."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    for row in rows:
        cells = [row.get(name, "") for name in names]
        writer.writerow([c if isinstance(c, str) else json.dumps(c) for c in cells])
    return text.getvalue().encode("utf-8", "surrogatepass")


@fuzzed
@given(with_byte_faults(st.lists(FAULTY_ROWS, max_size=3).map(as_csv)))
def test_csv(data: bytes) -> None:
    read_bytes(data, ".csv")


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    """Rows as Parquet; where arrow finds no common type, their columns as JSON text."""
    names = sorted({name for row in rows for name in row})
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, UnicodeError, OverflowError, TypeError):
            columns[name] = pa.array([json.dumps(value) for value in values])
    sink = io.BytesIO()
    try:
        pq.write_table(pa.table(columns), sink)
    except pa.ArrowNotImplementedError:
        pq.write_table(pa.table({"text": ["t"]}), sink)
    return sink.getvalue()


PARQUET_ROWS = st.lists(
    with_faults(ROWS).map(
        lambda row: {k.encode("utf-8", "replace").decode(): v for k, v in row.items()}
    ),
    min_size=1,
    max_size=3,
)


@fuzzed
@given(PARQUET_ROWS.map(as_parquet), st.one_of(st.none(), st.integers(0, 4000)))
def test_parquet(data: bytes, cut: int | None) -> None:
    read_bytes(data if cut is None else data[:cut], ".parquet")


@fuzzed
@given(st.sampled_from(shapes.names()), FAULTY_ROWS)
def test_each_shape(name: str, row: dict[str, Any]) -> None:
    def read() -> object:
        try:
            assert shapes.detect(row, shapes.names()) in shapes.names()
        except RowProblem:
            assert not any(shapes.load(other).matches(row) for other in shapes.names())
        try:
            found = shapes.load(name).read(row)
        except RowProblem as problem:
            return problem.at("f.jsonl", 1)
        assert isinstance(found, Content)
        return found

    answers(read)


def plain(parser: Callable[[str], Any], text: str) -> Any:
    """What a parser gives, or None where it refuses."""
    try:
        return parser(text)
    except (ValueError, RecursionError):
        return None


@fuzzed
@given(
    st.one_of(st.text(), with_byte_faults(VALUES.map(as_json)).map(lambda b: b.decode("latin1")))
)
def test_strict_json_is_json(text: str) -> None:
    def strict() -> Any:
        try:
            return parse(text)
        except RowProblem:
            return None

    found = answers(strict)
    if found is None:
        return
    assert found == plain(json.loads, text), "other than the standard parser says"
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    assert str(found).count("[") <= len(text)
    assert depth(found) <= MAX_DEPTH


def depth(value: Any) -> int:
    """Levels of lists and objects."""
    parts = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(map(depth, parts), default=0) if isinstance(parts, list) else 0


def bare() -> Any:
    """The tokenizer of a base without a chat template."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    return tokenizer


TOKENIZERS = {True: byte_tokenizer(), False: bare()}
"""By whether there is a chat template."""


@fuzzed
@given(
    JSONL,
    st.sampled_from(["assistant", "last", "all"]),
    st.sampled_from(["error", "drop", "truncate"]),
    st.sampled_from(["error", "skip"]),
    st.booleans(),
)
def test_examples_and_contract(
    data: bytes, train_on: str, overlong: str, on_bad_row: str, template: bool
) -> None:
    tokenizer = TOKENIZERS[template]
    stop = frozenset([tokenizer.eos_token_id])
    renderer = Renderer(tokenizer, stop, train_on, max_tokens=64, overlong=overlong)
    options = PrepareOptions(64, overlong, on_bad_row, train_on)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(data)
        source = Source(path=str(path))
        found = answers(
            lambda: check(prepare([source], renderer, options, Path(folder)), None, renderer),
            str(path),
            "data.",
            "chat template",
        )
    if not isinstance(found, TunesmithError):
        assert all(one.ok for one in found if one.name in FATAL), [c for c in found if not c.ok]
