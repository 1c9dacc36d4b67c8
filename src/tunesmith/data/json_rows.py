"""Rows of JSON files: one object a line, or an array that is read without holding it whole."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.data.lines import MAX_ROW_BYTES, not_utf8, text_lines, too_long
from tunesmith.data.row import OnBad, RawRow, RowProblem, place, show
from tunesmith.data.strict_json import SPACE, check_values, invalid, parse, parse_at
from tunesmith.errors import DataError

CHUNK = 2**18
"""Bytes read at a time from an array."""

JSON_ROWS = "a JSON array of rows, or one JSON object a line"

_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}


def read_jsonl(path: Path, on_bad: OnBad) -> Iterator[RawRow]:
    """Yields the rows of a file with one JSON object a line; empty lines are passed over."""
    for number, line in text_lines(path):
        if not line.strip(SPACE):
            continue
        try:
            value = _object(line, number)
        except RowProblem as problem:
            if not line.endswith("\n") and not problem.hint:
                problem.hint = "it is the last line and has no line end: is the file cut off?"
            on_bad(str(path), number, problem)
            continue
        yield RawRow(number, value)


def _object(line: str, number: int) -> dict[str, Any]:
    """The object on a line; raises RowProblem for anything else."""
    expected = "one JSON object a line"
    if number == 1 and line.lstrip(SPACE).startswith("["):
        raise RowProblem(
            "a JSON array", expected, "an array of rows is read from a file that ends in .json"
        )
    try:
        value = parse(line)
    except RowProblem as problem:
        problem.expected = problem.expected or expected
        raise
    if not isinstance(value, dict):
        raise RowProblem(f"{_NAMES.get(type(value), 'a number or null')}, {show(value)}", expected)
    return value


def read_json(path: Path, on_bad: OnBad) -> Iterator[RawRow]:
    """Yields the rows of a JSON array; a file of one object a line is read as JSONL.

    Raises:
        DataError: Neither of the two, or an array that breaks off. A fault inside an array ends
            the reading, since where the next row begins is then unknown.
    """
    with _Window(path) as window:
        first = window.peek()
        if first == "[":
            yield from _array(window, str(path))
            return
    if first != "{":
        raise DataError(
            str(path),
            got=f"a file that begins with {show(first)}" if first else "no rows",
            expected=JSON_ROWS,
        )
    _check_lines(path)
    yield from read_jsonl(path, on_bad)


def _check_lines(path: Path) -> None:
    """Raises when the first object of a file goes on behind its line: it is then no JSONL."""
    line = next(line for _, line in text_lines(path) if line.strip(SPACE))
    try:
        parse_at(line, line.index("{"))
    except json.JSONDecodeError as error:
        raise DataError(
            str(path),
            got=f"one JSON object over several lines ({invalid(error).got})",
            expected=JSON_ROWS,
            hint="put the rows into a list: [{...}, {...}]",
        ) from error
    except RowProblem:
        # The line is whole, only wrong: that is for the reading of lines to say.
        return


def _array(window: "_Window", source: str) -> Iterator[RawRow]:
    """Yields the elements of the array that `window` stands at."""
    window.advance()
    number, char = 0, window.peek()
    while char != "]":
        number += 1
        if char != "{":
            raise DataError(
                place(source, number),
                got=f"{show(char)} at line {window.line}" if char else "the end of the file",
                expected="a row, as a JSON object",
                hint="" if char else "the array is not closed: is the file cut off?",
            )
        yield RawRow(number, window.decode(place(source, number)))
        char = window.peek()
        if char == ",":
            window.advance()
            char = window.peek() or ""
            char = "," if char == "]" else char
        elif char != "]":
            raise DataError(
                f"{source}:{window.line}",
                got=f"{show(char)} behind row {number}" if char else "the end of the file",
                expected="a comma or the end of the array",
                hint="" if char else "the array is not closed: is the file cut off?",
            )
    window.advance()
    if rest := window.peek():
        raise DataError(
            f"{source}:{window.line}", got=f"{show(rest)} behind the array", expected="nothing"
        )


class _Window:
    """The part of a text file around the row being read; forgets what lies behind."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._offset = 0
        self._text, self._at, self._newlines = "", 0, 0

    def __enter__(self) -> "_Window":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    @property
    def line(self) -> int:
        """Number of the line that the window stands at, from 1."""
        return self._line(self._at)

    def peek(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._fill():
                return ""

    def advance(self) -> None:
        """Steps over one character."""
        self._at += 1

    def decode(self, where: str) -> dict[str, Any]:
        """The object that begins here; reads on until it is whole.

        Raises:
            DataError: It is not valid, ends with the file, or is beyond MAX_ROW_BYTES.
        """
        while True:
            try:
                value, end = self._parse()
            except json.JSONDecodeError as error:
                if self._is_final(error) or not self._fill():
                    raise self._broken(where, error) from error
                if len(self._text) > MAX_ROW_BYTES:
                    raise too_long(where) from error
            except RowProblem as problem:
                got, expected, hint = problem.got, problem.expected, problem.hint
                raise DataError(where, got=got, expected=expected, hint=hint) from problem
            else:
                self._at = end
                return value

    def _parse(self) -> tuple[dict[str, Any], int]:
        """The object that begins here and the index behind it; what is read of it is counted."""
        try:
            return parse_at(self._text, self._at)
        except json.JSONDecodeError as error:
            # Until it is whole, all of the window belongs to this row.
            if not self._is_final(error):
                check_values(self._text, self._at)
            raise

    def _is_final(self, error: json.JSONDecodeError) -> bool:
        """Whether more of the file cannot mend the error: it lies well before the end of the text.

        An open string is reported where it begins, a cut literal at most 9 characters before.
        """
        return not error.msg.startswith("Unterminated") and error.pos + 16 < len(self._text)

    def _broken(self, where: str, error: json.JSONDecodeError) -> DataError:
        line = self._line(error.pos)
        at_end = error.pos >= len(self._text.rstrip(SPACE)) or error.msg.startswith("Unterminated")
        hint = "the file ends inside this row: is it cut off?" if at_end else ""
        got = invalid(error).got.replace("at column", f"at line {line}, column")
        return DataError(where, got=got, expected="a JSON object", hint=hint)

    def _line(self, position: int) -> int:
        return self._newlines + self._text.count("\n", 0, position) + 1

    def _fill(self) -> bool:
        """Reads on; as much again as is held, so that a long row costs linear time."""
        raw = self._file.read(max(CHUNK, len(self._text) - self._at))
        try:
            text = self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            good = error.object[: error.start]
            line = self._line(len(self._text)) + good.count(b"\n")
            # A character may begin in the piece before; the decoder then holds its first bytes.
            offset = self._offset - (len(error.object) - len(raw))
            raise not_utf8(self._path, line, error.start, offset, error.object) from error
        if not raw:
            return False
        self._offset += len(raw)
        self._newlines += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :] + text, 0
        return True
