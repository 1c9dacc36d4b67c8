"""Graders: each scores outputs against rows. One file per grader; its name is the file's.

What a file defines is told in `base.py`. May import `config`, `errors`, and of the evaluate room
whatever is not a task.
"""

from collections.abc import Mapping
from typing import Any

from tunesmith.config import folder
from tunesmith.config.check import check
from tunesmith.errors import RecipeError
from tunesmith.evaluate import graders as package
from tunesmith.evaluate.graders._grading import Grades, Grading
from tunesmith.evaluate.graders.base import Grader
from tunesmith.evaluate.means import NO_MEANS, Means

__all__ = ["Grader", "Grades", "Grading", "build", "names", "open", "valid"]

Spec = str | Mapping[str, Any]
"""A grader's name, which takes its defaults, or its JSON with `type` and its own keys."""


def names() -> list[str]:
    """The graders there are."""
    return folder.names(package)


def build(spec: Spec, where: str = "grader") -> Grader:
    """The grader that a recipe asks for.

    Args:
        spec: Name or JSON.
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
    return Grader(check(module.Config, data, where), module)


def open(spec: Spec, means: Means | None = None, where: str = "grader") -> Grading:
    """The grader, ready to grade many outputs at once.

    Args:
        spec: Name or JSON.
        means: Models that it may ask; without them a grader that asks a local one is an error
            when it grades.
        where: The recipe key, for messages.

    Raises:
        RecipeError: As `build`.
    """
    return Grading(build(spec, where), means or NO_MEANS)


def valid(spec: Spec) -> Grader:
    """`build` inside a section that holds a grader: what is wrong is told as pydantic wants it.

    Raises:
        ValueError: With the key, what was expected and the hint.
    """
    try:
        return build(spec)
    except RecipeError as error:
        place = error.where.removeprefix("grader").removeprefix(": ")
        hint = f" ({error.hint})" if error.hint else ""
        raise ValueError(f"{place and place + ': '}{error.expected}{hint}") from error
