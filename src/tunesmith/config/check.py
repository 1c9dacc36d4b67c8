"""Validates a mapping against a section and says what is wrong in the user's words."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tunesmith.config.section import Section
from tunesmith.errors import RecipeError

S = TypeVar("S", bound=Section)

MAX_WORD = 80
"""Characters of a word that may be a misspelt name: comparing takes time with its square, a minute
for a text of 30,000."""


def check(section: type[S], data: Any, where: str, prefix: str = "") -> S:
    """Build `section` from `data`.

    Args:
        section: The model of the section.
        data: Plain dicts, lists and scalars.
        where: The file, for messages.
        prefix: Dotted key of this section in the recipe; empty for the whole recipe.

    Raises:
        RecipeError: With the first problem, its dotted key, what was got and what was expected.
    """
    if not isinstance(data, dict):
        raise RecipeError(
            f"{where}: {prefix or 'recipe'}", got=_show(data), expected="a mapping of keys"
        )
    try:
        return section.model_validate(data)
    except ValidationError as error:
        raise _recipe_error(section, error, where, prefix) from error


def choose(value: str, choices: Iterable[str], key: str) -> str:
    """Return `value` when it is one of `choices`; else a RecipeError with the nearest one."""
    names = sorted(choices)
    if value in names:
        return value
    raise RecipeError(
        key,
        got=_cut(repr(value)),
        expected=f"one of {', '.join(names)}",
        hint=did_you_mean(value, names),
    )


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """`did you mean x?` for the nearest of `names`, or an empty string."""
    if len(word) > MAX_WORD:
        return ""
    near = get_close_matches(word, list(names), n=1, cutoff=0.55)
    return f"did you mean {near[0]}?" if near else ""


def _recipe_error(
    section: type[Section], error: ValidationError, where: str, prefix: str
) -> RecipeError:
    """The first problem; unknown keys first, since a typo often causes the others."""
    problems = error.errors(include_url=False)
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    location = [_cut(str(part)) for part in problem["loc"]]
    key = ".".join(([prefix] if prefix else []) + location)
    place = f"{where}: {key}" if key else where
    if problem["type"] == "extra_forbidden":
        names = _names_beside(section, problem["loc"])
        hint = did_you_mean(location[-1], names) or f"keys here: {', '.join(names)}"
        return RecipeError(place, got="an unknown key", expected="a key of the recipe", hint=hint)
    if problem["type"] == "missing":
        return RecipeError(place, got="nothing", expected="a value: this key is needed")
    if problem["type"] == "value_error":
        return RecipeError(
            place, got=_show(problem["input"]), expected=str(problem["ctx"]["error"])
        )
    return RecipeError(place, got=_show(problem["input"]), expected=_expected(problem))


def _expected(problem: Any) -> str:
    message = problem["msg"]
    for opening in ("Input should be ", "Value should be ", "Value error, "):
        message = message.removeprefix(opening)
    return message


def _show(value: Any) -> str:
    try:
        text = _cut(repr(value))
    except ValueError:  # Python writes no integer of more than 4,300 digits.
        text = "a number with thousands of digits"
    return f"{text} ({type(value).__name__})"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_WORD else f"{text[: MAX_WORD - 3]}..."


def _names_beside(section: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the keys that the model at `location`'s parent knows."""
    model: type[BaseModel] = section
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        inner = _models_in(field.annotation) if field else []
        if inner:
            model = inner[0]
    return sorted(field.alias or name for name, field in model.model_fields.items())


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    parts = getattr(annotation, "__args__", ())
    return [model for part in parts for model in _models_in(part)]
