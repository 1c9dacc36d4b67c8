"""OpenAI's `python`: what a function `grade(sample, item)` of the user returns.

The source runs in a sandbox (`evaluate/sandbox`): without network, files, other processes or the
environment, in bounded time and memory. `sample` has `output_text`, `output_json` (None where the
output is no JSON), `output_tools` and `choices`; `item` is the row, with its answer as
`reference_answer`. Packages that are installed can be imported. What raises, or overstays, scores
0 and is listed as a failure.

Rows share a process, so a module-level value that one row changes is seen by the next.
"""

import ast
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from tunesmith.config.section import Section
from tunesmith.evaluate.graders.base import Answered, Scored
from tunesmith.evaluate.means import Means
from tunesmith.evaluate.sandbox.box import Box
from tunesmith.evaluate.templates import values_of

MAX_SOURCE_BYTES = 256_000
"""OpenAI's limit."""


class Config(Section):
    """A program of the user's."""

    type: Literal["python"] = "python"
    name: str = ""
    """What reports call it."""
    source: str
    """Python that defines `grade(sample, item)`, which returns a number."""
    image_tag: str = ""
    """OpenAI's image of packages, named in errors only: here it is those that are installed."""
    timeout_seconds: float = Field(120.0, gt=0, le=3600)
    """For one row, on a clock."""
    memory_mib: int = Field(2048, ge=16)
    """Beyond what Python itself holds."""

    @field_validator("source")
    @classmethod
    def _is_a_grader(cls, source: str) -> str:
        if len(source.encode("utf-8", "surrogatepass")) > MAX_SOURCE_BYTES:
            raise ValueError(f"at most {MAX_SOURCE_BYTES:,} bytes")
        try:
            names = {getattr(node, "name", "") for node in ast.walk(ast.parse(source))}
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"Python; {error}") from error
        if "grade" not in names:
            raise ValueError("a function grade(sample, item)")
        return source


def bounds(config: Config) -> None:
    """Not known: the function may return any number."""


def check(config: Config, reference: str, row: Mapping[str, Any]) -> None:
    """Nothing: what a source makes of a row is seen when it runs."""


def prepare(config: Config, means: Means) -> None:
    """Read the source in the sandbox, and raise where it is no grader."""
    _box(config).require_grader()


def score_all(config: Config, answers: Sequence[Answered], means: Means) -> list[Scored]:
    """What the function returns for each output."""
    box = _box(config)
    asked = [values_of(answer.output, answer.reference, answer.row) for answer in answers]
    graded = box.grade([(values["sample"], values["item"]) for values in asked])
    return [Scored(each.score, each.failure) for each in graded]


def _box(config: Config) -> Box:
    tag = f", written for image {config.image_tag}" if config.image_tag else ""
    return Box(
        config.source, config.timeout_seconds, config.memory_mib, where=f"python grader{tag}"
    )
