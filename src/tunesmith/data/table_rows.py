"""Rows of tables: CSV and Parquet."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.data.lines import MAX_ROW_BYTES, text_lines
from tunesmith.data.row import OnBad, RawRow, RowProblem, show
from tunesmith.errors import DataError

BATCH_ROWS = 512
"""Rows decoded at a time from Parquet."""


def read_csv(path: Path, on_bad: OnBad) -> Iterator[RawRow]:
    """Yields the rows below the header; every value is text, numbers count from 1.

    Raises:
        DataError: No usable header, or quotes that do not close.
    """
    # The standard limit of 128 KiB a field is a limit of the process; there is no other way.
    csv.field_size_limit(MAX_ROW_BYTES)
    reader = csv.reader((line for _, line in text_lines(path)), strict=True)
    try:
        names = _header(path, next(reader, []))
        number = 0
        for fields in reader:
            if not fields:
                continue
            number += 1
            if len(fields) == len(names):
                yield RawRow(number, dict(zip(names, fields, strict=True)))
                continue
            problem = RowProblem(
                f"{len(fields)} fields (line {reader.line_num})",
                f"{len(names)}, as in the header",
                'put a value that holds a comma or a line end into "double quotes"',
            )
            on_bad(str(path), number, problem)
    except csv.Error as error:
        raise DataError(
            f"{path}:{reader.line_num}",
            got=f"CSV that does not parse ({error})",
            expected='fields with a comma in "double quotes", a quote in them doubled',
        ) from error


def _header(path: Path, fields: list[str]) -> list[str]:
    """The names of the columns; raises when they are missing or not unique."""
    names = [field.strip() for field in fields]
    twice = [name for name in names if names.count(name) > 1]
    if not any(names) or twice or "" in names:
        got = f"the column {show(twice[0])} twice" if twice else f"the header {show(names)}"
        raise DataError(f"{path}:1", got=got, expected="a name for each column, each once")
    return names


def read_parquet(path: Path, on_bad: OnBad) -> Iterator[RawRow]:
    """Yields the rows of a Parquet file; numbers count from 1.

    A null is a key that is not there: Parquet gives all rows the keys of all others.

    Raises:
        DataError: It is not Parquet, or it is damaged.
    """
    number = 0
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
                for value in batch.to_pylist():
                    number += 1
                    yield RawRow(number, _without_nulls(value))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            str(path), got=f"a file that does not read as Parquet ({reason})", expected="Parquet"
        ) from error


def _without_nulls(value: Any) -> Any:
    """The value without the null keys of its dicts, at every level."""
    if isinstance(value, dict):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_without_nulls(part) for part in value]
    return value
