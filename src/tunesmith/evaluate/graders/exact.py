"""1 when the output is the reference answer, white space around both left out; else 0."""

from collections.abc import Mapping
from typing import Any, Literal

from tunesmith.config.section import Section
from tunesmith.evaluate.graders.base import need_reference


class Config(Section):
    """Equal texts: case, accents and inner white space count."""

    type: Literal["exact"] = "exact"
    name: str = ""
    """What reports call it."""


def grade(config: Config, output: str, reference: str, row: Mapping[str, Any]) -> float:
    """1.0 or 0.0; a ValueError when the row has no answer."""
    need_reference(reference)
    return float(output.strip() == reference.strip())
