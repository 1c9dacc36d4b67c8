"""Graders: each scores one output against one row. One file per grader; its name is the file's.

A file holds a docstring that says what the score means, `Config` (a `Section`: the grader's JSON,
`type` is the file's name, every key with a default where there is a sensible one) and
`grade(config, output, reference, row) -> float`. May import `config`, `errors`,
`evaluate.templates` and `graders.base`.
"""

from collections.abc import Mapping
from typing import Any

from tunesmith.config import folder
from tunesmith.config.check import check
from tunesmith.errors import RecipeError
from tunesmith.evaluate import graders as package
from tunesmith.evaluate.graders.base import Grader


def names() -> list[str]:
    """The graders there are."""
    return folder.names(package)


def build(spec: str | Mapping[str, Any], where: str = "grader") -> Grader:
    """The grader that a recipe asks for.

    Args:
        spec: A name, which takes the grader's defaults, or its JSON with `type` and its own keys.
        where: The recipe key, for messages.

    Raises:
        RecipeError: There is no such grader, or a key of it is wrong.
    """
    data = {"type": spec} if isinstance(spec, str) else dict(spec)
    kind = data.get("type")
    if not isinstance(kind, str):
        got = "a grader without a type" if kind is None else f"type: {kind!r}"
        raise RecipeError(where, got=got, expected=f"type: one of {', '.join(names())}")
    module = folder.load(package, kind, where)
    return Grader(check(module.Config, data, where), module.grade)
