"""JSON values as graders compare them: strict in the reading, and true is not 1."""

import json
import math
from typing import Any


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
