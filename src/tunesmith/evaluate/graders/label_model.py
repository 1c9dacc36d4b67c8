"""OpenAI's `label_model`: 1 when a judge, another model, gives an output a passing label, else 0.

    {"type": "label_model", "model": "starter", "labels": ["polite", "rude"],
     "passing_labels": ["polite"], "input": [{"role": "user", "content": "{{sample.output_text}}"}]}

The judge is told the labels and asked for one of them. Another answer scores 0 and is listed as a
failure. Answers are kept under TUNESMITH_HOME, so that the same question is asked once.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from tunesmith.evaluate.graders.base import Answered, Scored
from tunesmith.evaluate.judges.asking import open_judge, scores
from tunesmith.evaluate.judges.replies import FORM, label_in
from tunesmith.evaluate.judges.section import JudgeSection
from tunesmith.evaluate.means import Means


class Config(JudgeSection):
    """A judge that gives labels."""

    type: Literal["label_model"] = "label_model"
    name: str = ""
    """What reports call it."""
    labels: list[str] = Field(min_length=1)
    """All labels that there are."""
    passing_labels: list[str] = Field(min_length=1)
    """Those that score 1."""

    @model_validator(mode="after")
    def _passing_are_labels(self) -> "Config":
        unknown = [label for label in self.passing_labels if label not in self.labels]
        if unknown:
            raise ValueError(f"passing_labels among the labels, unlike {unknown[0]!r}")
        return self


def check(config: Config, reference: str, row: Mapping[str, Any]) -> None:
    """Raise where a place of the question leads nowhere."""
    config.question("", reference, reference, row)


def prepare(config: Config, means: Means) -> None:
    """Open the judge."""
    open_judge(config, means)


def score_all(config: Config, answers: Sequence[Answered], means: Means) -> list[Scored]:
    """1 or 0 for each output."""
    labels = ", ".join(json.dumps(label, ensure_ascii=False) for label in config.labels)
    form = FORM.format(result=f"one of {labels}")
    passing = config.passing_labels
    return scores(
        config,
        form,
        answers,
        means,
        lambda said: float(label_in(said, config.labels) in passing),
    )
