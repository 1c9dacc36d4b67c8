"""OpenAI's `score_model`: the number that a judge, another model, gives an output.

    {"type": "score_model", "model": "...", "endpoint": "http://localhost:8000/v1",
     "input": [{"role": "user", "content": "... {{sample.output_text}} ..."}], "range": [0, 1]}

The judge is asked for JSON with a `result`, which is clipped to `range`. An answer without a number
scores the least of the range, or 0 where that lies inside, and is listed as a failure. Answers are
kept under TUNESMITH_HOME, so that the same question is asked once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import field_validator

from tunesmith.evaluate.graders.base import Answered, Scored
from tunesmith.evaluate.judges.asking import open_judge, scores
from tunesmith.evaluate.judges.replies import FORM, number_in
from tunesmith.evaluate.judges.section import JudgeSection
from tunesmith.evaluate.means import Means


class Config(JudgeSection):
    """A judge that gives numbers."""

    type: Literal["score_model"] = "score_model"
    name: str = ""
    """What reports call it."""
    range: tuple[float, float] = (0.0, 1.0)
    """The least and the greatest number."""

    @field_validator("range")
    @classmethod
    def _goes_up(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if not ends[0] < ends[1]:
            raise ValueError("the smaller number first")
        return ends


def bounds(config: Config) -> tuple[float, float]:
    """The range."""
    return config.range


def check(config: Config, reference: str, row: Mapping[str, Any]) -> None:
    """Raise where a place of the question leads nowhere."""
    config.question("", reference, reference, row)


def prepare(config: Config, means: Means) -> None:
    """Open the judge."""
    open_judge(config, means)


def score_all(config: Config, answers: Sequence[Answered], means: Means) -> list[Scored]:
    """The judge's number for each output."""
    low, high = config.range
    form = FORM.format(result=f"a number from {low:g} to {high:g}")
    found = scores(config, form, answers, means, lambda said: min(max(number_in(said), low), high))
    none = min(max(0.0, low), high)
    return [Scored(none, each.failure) if each.failure else each for each in found]
