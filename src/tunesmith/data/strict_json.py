"""JSON that means one thing only: no duplicate keys, NaN, lone surrogates or endless nesting.

Numbers that only infinity could stand for are no JSON either, nor rows of millions of empty lists,
which take thirty times the memory of their text. The standard parser accepts all of it, keeps the
last of two equal keys, and leaves a string that fails much later, when it is encoded.
"""

import json
import re
from math import inf
from typing import Any, NoReturn

from tunesmith.data.row import RowProblem, show

MAX_DEPTH = 64

MAX_VALUES = 1_000_000
"""Of one row; long conversations have some thousands."""

MARKS = ",[{"
"""What begins a value, or stands before the next."""

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
"""One that the text breaks off in counts too: else each quote in it would be tried as a start."""

SPACE = " \t\n\r"
"""White space, as JSON knows it."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dict; raises when a key stands there twice."""
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise RowProblem(f"the key {show(twice)} twice in one object", "each key once")
    return value


def _constant(name: str) -> NoReturn:
    """Raises for NaN, Infinity and -Infinity, which are no JSON."""
    raise RowProblem(f"{name}, which is no JSON", "a number, a string or null")


def _finite(text: str) -> float:
    """The number; raises for one beyond what a float can hold, which Python reads as infinity."""
    value = float(text)
    if value in (inf, -inf):
        raise RowProblem(f"the number {show(text)}, which is too large", "a finite number")
    return value


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite)


def parse(text: str) -> Any:
    """Parses a whole text.

    Raises:
        RowProblem: It is not JSON, or one of the four things named above.
    """
    check_values(text, 0)
    try:
        start = len(text) - len(text.lstrip(SPACE))
        value, end = parse_at(text, start)
        if rest := text[end:].lstrip(SPACE):
            raise json.JSONDecodeError("Extra data", text, len(text) - len(rest))
    except json.JSONDecodeError as error:
        raise invalid(error) from error
    return value


def parse_at(text: str, start: int) -> tuple[Any, int]:
    """Parses the value that begins at `start`; returns it and the index behind it.

    Raises:
        JSONDecodeError: It is no JSON, or `text` ends inside it.
        RowProblem: One of the four things named above.
    """
    try:
        value, end = DECODER.raw_decode(text, start)
    except (json.JSONDecodeError, RowProblem):
        raise
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise RowProblem(f"a number that is too long ({error})", "a number") from error
    _check_value(value, text, start, end)
    return value, end


def invalid(error: json.JSONDecodeError) -> RowProblem:
    """The problem for text that does not parse."""
    reason = error.msg[:1].lower() + error.msg[1:]
    return RowProblem(f"invalid JSON at column {error.colno} ({reason})")


def _too_deep() -> RowProblem:
    """The problem for nesting beyond MAX_DEPTH."""
    return RowProblem(f"nesting deeper than {MAX_DEPTH}", f"at most {MAX_DEPTH} levels")


def _check_value(value: Any, text: str, start: int, end: int) -> None:
    """Checks depth and surrogates of `value`, which was parsed from `text[start:end]`.

    Raises:
        RowProblem: It is nested too deep or holds half a surrogate pair.
    """
    brackets = text.count("{", start, end) + text.count("[", start, end)
    if brackets > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise _too_deep()
    if text.find("\\ud", start, end) < 0 and text.find("\\uD", start, end) < 0:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise RowProblem(
            f"half a surrogate pair (\\u{ord(half):04x})", "whole characters"
        ) from error


def check_values(text: str, start: int) -> None:
    """Counts the values of a row, or of its beginning, before any is made.

    Raises:
        RowProblem: They are more than MAX_VALUES.
    """
    if sum(text.count(mark, start) for mark in MARKS) <= MAX_VALUES:
        return
    bare = _STRING.sub("", text[start:])
    if sum(map(bare.count, MARKS)) > MAX_VALUES:
        raise RowProblem(f"more than {MAX_VALUES:,} values in one row", "fewer, or text")


def _depth(value: Any) -> int:
    """Levels of lists and dicts, counted without recursion."""
    depth, level = 0, [value]
    while level:
        inner: list[Any] = []
        for part in level:
            if isinstance(part, dict):
                inner.extend(part.values())
            elif isinstance(part, list):
                inner.extend(part)
        depth += any(isinstance(part, dict | list) for part in level)
        level = inner
    return depth
