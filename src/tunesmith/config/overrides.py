"""Dotted overrides from the command line: `train.learning_rate=1e-4 adapter.rank=8`."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from tunesmith.config.yaml_file import parse_yaml
from tunesmith.errors import RecipeError


def apply_overrides(data: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return `data` with each `a.b=value` set; values are read as YAML, lists by index (`a.0.b`).

    Raises:
        RecipeError: An override without `=`, with an empty key, or through a value that is no
            section.
    """
    result = deepcopy(data)
    for override in overrides:
        key, equals, text = override.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise RecipeError(
                f"override {override!r}", got="no section.key=value", expected="section.key=value"
            )
        _set(result, path, parse_yaml(text, f"override {key.strip()}"), key.strip())
    return result


def _set(data: dict[str, Any], path: list[str], value: Any, key: str) -> None:
    target: Any = data
    for part in path[:-1]:
        target = _step(target, part, key)
    if isinstance(target, list):
        target[_index(target, path[-1], key)] = value
    elif isinstance(target, dict):
        target[path[-1]] = value
    else:
        raise RecipeError(f"override {key}", got=f"a path through {target!r}", expected="a section")


def _step(target: Any, part: str, key: str) -> Any:
    if isinstance(target, list):
        return target[_index(target, part, key)]
    if not isinstance(target, dict):
        raise RecipeError(f"override {key}", got=f"a path through {target!r}", expected="a section")
    if target.get(part) is None:
        target[part] = {}
    return target[part]


def _index(target: list[Any], part: str, key: str) -> int:
    if not part.isdecimal() or int(part) >= len(target):
        raise RecipeError(
            f"override {key}", got=f"{part!r}", expected=f"a list index below {len(target)}"
        )
    return int(part)
