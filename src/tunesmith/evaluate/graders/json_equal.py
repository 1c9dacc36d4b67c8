"""Whether the output is the same JSON value as the reference answer.

Both are parsed, so white space, the order of keys and the writing of numbers do not count: 1 is
1.0, and true is not 1. Strict JSON alone is read: NaN, Infinity, numbers too large for a double,
two equal keys in one object, or text around the value make an output wrong.
"""

from collections.abc import Mapping
from typing import Any, Literal

from tunesmith.config.section import Section
from tunesmith.evaluate.graders.base import need_reference
from tunesmith.evaluate.json_values import equal, parse


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


def _credit(got: dict[str, Any], expected: dict[str, Any]) -> float:
    num_right = sum(key in got and equal(got[key], value) for key, value in expected.items())
    extra = bool(got.keys() - expected.keys())
    if not expected:
        return float(not extra)
    most = len(expected) / (len(expected) + extra)
    return min(num_right / len(expected), most)
