"""OpenAI's `multi`: several graders, and a formula that makes one score of theirs.

    {"type": "multi",
     "graders": {"right": {"type": "json_equal"}, "brief": {"type": "python", ...}},
     "calculate_output": "0.8 * right + 0.2 * brief"}

The formula knows the names of the graders, numbers, `+ - * / ^`, parentheses, and min, max, abs,
floor, ceil, exp, sqrt and log; it is parsed, not run. A grader that fails on a row counts as 0 in
the formula, and the row is listed as a failure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import field_validator, model_validator

from tunesmith.config.section import Section
from tunesmith.evaluate import graders
from tunesmith.evaluate.formula import Formula, parse
from tunesmith.evaluate.graders.base import Answered, Scored, failed
from tunesmith.evaluate.means import Means


class Config(Section):
    """Graders by name, and what becomes of their scores."""

    type: Literal["multi"] = "multi"
    name: str = ""
    """What reports call it."""
    graders: dict[str, dict[str, Any]]
    """Each grader's JSON under the name that the formula uses; also a list of graders with a `name`
    each, or a single one, as OpenAI's API takes them."""
    calculate_output: str
    """The formula."""

    @field_validator("graders", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get("type"), str):
            value = [value]
        if not isinstance(value, list):
            return value
        if not all(isinstance(each, Mapping) and each.get("name") for each in value):
            raise ValueError("graders with a name each")
        named = {each["name"]: dict(each) for each in value}
        if len(named) < len(value):
            raise ValueError("graders with a name of their own each")
        return named

    @field_validator("graders")
    @classmethod
    def _each_can_be_built(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, spec in value.items():
            if not name.isidentifier():
                raise ValueError(f"names of letters, digits and _, not {name!r}")
            if spec.get("type") == "multi":
                raise ValueError(f"graders that are no multi themselves, unlike {name}")
            try:
                graders.valid(spec)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return value

    @model_validator(mode="after")
    def _formula_can_be_read(self) -> "Config":
        try:
            self.formula()
        except ValueError as error:
            raise ValueError(f"calculate_output: {error}") from error
        return self

    def formula(self) -> Formula:
        """`calculate_output`, read."""
        return parse(self.calculate_output, self.graders)


def check(config: Config, reference: str, row: Mapping[str, Any]) -> None:
    """Raise what a grader of the formula raises on the row."""
    for name in config.formula().names:
        graders.build(config.graders[name], name).check(reference, row)


def prepare(config: Config, means: Means) -> None:
    """Open what the graders of the formula will ask."""
    for name in config.formula().names:
        graders.build(config.graders[name], name).prepare(means)


def bounds(config: Config) -> None:
    """Not known: a formula may give any number."""


def reads_output(config: Config) -> bool:
    """Whether one of the graders does."""
    return any(graders.build(spec).reads_output for spec in config.graders.values())


def score_all(config: Config, answers: Sequence[Answered], means: Means) -> list[Scored]:
    """The formula's value for each output."""
    formula = config.formula()
    parts = {
        name: graders.open(config.graders[name], means, name).score_all(answers)
        for name in formula.names
    }
    rows = [{name: scored[i] for name, scored in parts.items()} for i in range(len(answers))]
    return [_together(formula, row) for row in rows]


def _together(formula: Formula, parts: dict[str, Scored]) -> Scored:
    failures = [f"{name}: {part.failure}" for name, part in parts.items() if part.failure]
    said = next((part.said for part in parts.values() if part.said), "")
    try:
        score = formula({name: part.score for name, part in parts.items()})
    except ValueError as error:
        return replace(failed(error), said=said)
    return Scored(score, "; ".join(failures), said)
