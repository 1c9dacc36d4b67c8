"""OpenAI's `string_check`: one text against another, 1 or 0."""

from collections.abc import Mapping
from typing import Any, Literal

from tunesmith.config.section import Section
from tunesmith.evaluate.templates import Template, fill


class Config(Section):
    """Compares two templates."""

    type: Literal["string_check"] = "string_check"
    name: str = ""
    """What reports call it."""
    input: Template = "{{sample.output_text}}"
    """The text that is checked."""
    reference: Template = "{{item.reference_answer}}"
    """The text that it is checked against."""
    operation: Literal["eq", "ne", "like", "ilike"] = "eq"
    """Equal, not equal, contains the reference, contains it whatever the case."""


def grade(config: Config, output: str, reference: str, row: Mapping[str, Any]) -> float:
    """1.0 or 0.0; white space counts."""
    text = fill(config.input, output, reference, row)
    wanted = fill(config.reference, output, reference, row)
    match config.operation:
        case "eq":
            return float(text == wanted)
        case "ne":
            return float(text != wanted)
        case "like":
            return float(wanted in text)
        case "ilike":
            return float(wanted.casefold() in text.casefold())
