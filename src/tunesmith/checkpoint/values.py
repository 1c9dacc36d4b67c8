"""Python values to JSON and back, exactly: what is not a tensor in a checkpoint.

JSON says None, bool, int, str, list, str-keyed dict and every finite float as it is (a float is
written with its shortest digits that read back to the same bits). What it cannot say is a dict with
one key that begins with `$`:

{"$float": "nan"}            nan, inf, -inf
{"$tuple": [...]}            a tuple
{"$dict": [[key, value]]}    a dict with keys that are no strings, or begin with `$`
"""

import json
import math
from typing import Any

from tunesmith.errors import CheckpointError


def dump(values: Any, where: str) -> bytes:
    """The JSON text of `values`, UTF-8.

    Raises:
        CheckpointError: A value of a type not listed above; its place is named.
    """
    return (json.dumps(_encode(values, where), indent=1, allow_nan=False) + "\n").encode("ascii")


def load(text: bytes, where: str) -> Any:
    """The values that `dump` wrote.

    Raises:
        CheckpointError: The text is not as `dump` writes it.
    """
    try:
        return _decode(json.loads(text, parse_constant=_refuse_constant))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(where, got=str(error), expected="JSON as it was saved") from error


def _encode(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, tuple):
        return {"$tuple": [_encode(inner, f"{where}[{i}]") for i, inner in enumerate(value)]}
    if isinstance(value, list):
        return [_encode(inner, f"{where}[{i}]") for i, inner in enumerate(value)]
    if isinstance(value, dict):
        return _encode_dict(value, where)
    raise CheckpointError(
        where,
        got=f"a value of type {type(value).__name__}",
        expected="None, bool, int, float, str, list, tuple or dict",
        hint="tensors go among the tensors of the checkpoint",
    )


def _encode_dict(value: dict[Any, Any], where: str) -> Any:
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: _encode(inner, f"{where}.{key}") for key, inner in value.items()}
    return {
        "$dict": [
            [_encode(key, f"key of {where}"), _encode(inner, f"{where}.{key}")]
            for key, inner in value.items()
        ]
    }


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if "$float" in value:
        return float(value["$float"])
    if "$tuple" in value:
        return tuple(_decode(inner) for inner in value["$tuple"])
    if "$dict" in value:
        return {_decode(key): _decode(inner) for key, inner in value["$dict"]}
    return {key: _decode(inner) for key, inner in value.items()}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name}, which is not JSON")
