"""From a file to rows: its records, their shape, what they say."""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

from tunesmith.config.check import choose
from tunesmith.data import shapes
from tunesmith.data.phrasing import rewritten
from tunesmith.data.row import OnBad, RawRow, Row, RowProblem, place, refuse
from tunesmith.data.section import Source
from tunesmith.data.sources import read_rows
from tunesmith.errors import DataError


def read_file(
    path: str | Path,
    format: str = "auto",
    on_bad: OnBad = refuse,
    among: Collection[str] = shapes.ANSWERED,
    rewrite: Callable[[dict], list[dict]] = lambda value: [value],
) -> Iterator[Row]:
    """Yields the rows of a file, all of one shape.

    Args:
        path: A data file.
        format: Name of a shape, or `auto` for that of the first row that has one.
        on_bad: Called for a row that cannot be used; the default raises.
        among: The shapes that whoever asks can use.
        rewrite: The record as its shape is to see it, in every phrasing of it.

    Raises:
        DataError: The file cannot be read, or it mixes shapes: the first row that differs is named.
        RecipeError: There is no shape of that name, or it is none of `among`.
    """
    source, first = str(path), 0
    name = None if format == "auto" else format
    shape = shapes.load(choose(format, among, "data.train.format")) if name else None
    for raw in read_rows(path, on_bad):
        try:
            values = rewrite(raw.value)
            if format == "auto":
                found = shapes.detect(values[0], among)
                if shape is None:
                    name, first, shape = found, raw.number, shapes.load(found)
                if found != name:
                    raise _mixed(source, raw, found, f"{name}, as since row {first}")
            elif not shape.matches(values[0]):
                raise RowProblem(shapes.keys_of(values[0]), f"the shape {name} ({shape.KEYS})")
            content, *others = [shape.read(value) for value in values]
        except RowProblem as problem:
            on_bad(source, raw.number, problem)
            continue
        yield Row(content, source, raw.number, raw.value, name, tuple(others))


def read_source(
    source: Source,
    on_bad: OnBad = refuse,
    among: Collection[str] = shapes.ANSWERED,
    shape: str | None = None,
) -> Iterator[Row]:
    """Yields the rows of a file of the recipe, under the names and in the phrasings it gives them.

    Args:
        source: The file.
        on_bad: As for `read_file`.
        among: As for `read_file`.
        shape: Where it is known already; else the source says it, or the first row.

    Raises:
        DataError: As `read_file`.
        RecipeError: As `read_file`.
    """
    rewrite = partial(rewritten, columns=source.columns, phrasings=source.phrasings)
    # A phrased row is a prompt with its completion, whatever other keys it has.
    own = "completion" if source.phrasings else source.format
    return read_file(source.path, shape or own, on_bad, among, rewrite)


def _mixed(source: str, raw: RawRow, found: str, expected: str) -> DataError:
    """The error for a row whose shape is not that of the rows before it."""
    return DataError(
        place(source, raw.number),
        got=f"a row of shape {found} ({shapes.keys_of(raw.value)})",
        expected=f"shape {expected}: one file has one shape",
        hint="put the rows of each shape into a file of their own and list both in data.train",
    )
