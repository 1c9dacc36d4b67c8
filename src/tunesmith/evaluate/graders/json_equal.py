"""Whether the output is the same JSON value as the reference answer.

Both are parsed, so white space, the order of keys and the writing of numbers do not count: 1 is
1.0, and true is not 1. Strict JSON alone is read: NaN, Infinity, numbers too large for a double,
two equal keys in one object, or text around the value make an output wrong.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from tunesmith.config.section import Section
from tunesmith.evaluate.graders.base import need_reference


class Config(Section):
    """Equal JSON values."""

    type: Literal["json_equal"] = "json_equal"
    name: str = ""
    """What reports call it."""
    fields: bool = False
    """Credit for each right field of an object instead of all or nothing."""


def grade(config: Config, output: str, reference: str, row: Mapping[str, Any]) -> float:
    """Score an output.

    Returns:
        1.0 for an equal value, else 0.0. With `fields`, where both are objects: the share of the
        reference's n top-level keys whose values are equal; keys that the reference does not have
        cost nothing, but with any of them the score is at most n / (n + 1).

    Raises:
        ValueError: The reference answer is missing, or is not JSON itself.
    """
    need_reference(reference)
    expected = parse(reference)
    try:
        got = parse(output)
        if config.fields and isinstance(got, dict) and isinstance(expected, dict):
            return _credit(got, expected)
        return float(equal(got, expected))
    # The parser and `equal` go as deep as the output; one too deep to read is a wrong one.
    except (ValueError, RecursionError):
        return 0.0


def parse(text: str) -> Any:
    """The value of a JSON text; a ValueError where it is not strict JSON."""
    return json.loads(
        text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_distinct
    )


def equal(a: Any, b: Any) -> bool:
    """Whether two parsed values are the same JSON value."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def _credit(got: dict[str, Any], expected: dict[str, Any]) -> float:
    num_right = sum(key in got and equal(got[key], value) for key, value in expected.items())
    extra = bool(got.keys() - expected.keys())
    if not expected:
        return float(not extra)
    most = len(expected) / (len(expected) + extra)
    return min(num_right / len(expected), most)


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large for a double")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("two equal keys in one object")
    return values
