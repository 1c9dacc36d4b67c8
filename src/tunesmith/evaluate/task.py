"""A task: the user's own measure, rows with a prompt and a grader of what is answered."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from tunesmith.config.section import Section
from tunesmith.data.row import Conversation, Row, RowProblem, place, show
from tunesmith.data.template import Renderer
from tunesmith.errors import DataError, TunesmithError
from tunesmith.evaluate import graders
from tunesmith.evaluate.graders import Grader, Grading
from tunesmith.evaluate.means import Means

GenerateTexts = Callable[[list[list[int]], int], list[str]]
"""Answers prompts, given as token ids, with at most so many new tokens, in their order."""

SHARE = (0.0, 1.0)
"""Scores of a task are shares of what could be had."""


class TaskSpec(Section):
    """One task of the recipe."""

    path: str
    """A data file of any row shape; its last answers are the references."""
    grader: str | dict[str, Any]
    """A grader's name, or OpenAI's grader JSON."""
    max_new_tokens: int = Field(256, ge=1)
    """Longest answer, in tokens."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many rows; null takes all of them."""
    name: str = ""
    """What reports call it; the file's name without its ending when left out."""

    @model_validator(mode="before")
    @classmethod
    def _name_after_file(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("path"), str) and not data.get("name"):
            return {**data, "name": Path(data["path"]).stem}
        return data

    @field_validator("grader")
    @classmethod
    def _grader_can_be_built(cls, spec: str | dict[str, Any]) -> str | dict[str, Any]:
        low, high = graders.valid(spec).bounds or SHARE
        if low < 0 or high > 1:
            raise ValueError(
                f"scores from 0 to 1, for a task shows them as a share, not {low:g} to {high:g} "
                f"(put it into a multi whose calculate_output brings it there)"
            )
        return spec


@dataclass(frozen=True, slots=True)
class TaskRows:
    """The rows of a task, ready to be answered.

    Attributes:
        name: Of the task.
        prompts: Token ids that inference starts from, one list a row.
        references: The last answer of each row; empty where it has none.
        raw: Each row as it stands in the file.
        places: File and number of each row, for messages.
        asked: The last message of the user in each row, for people to read.
        max_new_tokens: Longest answer.
        grading: Scores the outputs.
    """

    name: str
    prompts: list[list[int]]
    references: list[str]
    raw: list[dict[str, Any]]
    places: list[str]
    asked: list[str]
    max_new_tokens: int
    grading: Grading

    def __len__(self) -> int:
        return len(self.prompts)

    def asking(self, means: Means) -> "TaskRows":
        """The same task, whose grader may ask these models.

        Raises:
            TunesmithError: One that it will ask cannot be opened.
        """
        self.grading.grader.prepare(means)
        return replace(self, grading=replace(self.grading, means=means))

    def first(self, rows: int) -> "TaskRows":
        """The same task with so many rows at most."""
        parts = ("prompts", "references", "raw", "places", "asked")
        return replace(self, **{name: getattr(self, name)[:rows] for name in parts})


@dataclass(frozen=True, slots=True)
class Failure:
    """A row whose output could not be graded, and so scored 0.

    Attributes:
        place: File and number of the row.
        reason: What the grader said.
    """

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a model did on a task.

    Attributes:
        name: Of the task.
        outputs: What it answered to each row.
        scores: (n,) float64, 0 to 1.
        failures: Rows that could not be graded.
    """

    name: str
    outputs: list[str]
    scores: NDArray[np.float64]
    failures: list[Failure] = field(default_factory=list)

    @property
    def score(self) -> float:
        """Mean over the rows."""
        return float(self.scores.mean())


def prepare_task(spec: TaskSpec, rows: Iterable[Row], renderer: Renderer) -> TaskRows:
    """Render the prompts and see that every row can be graded, before any model runs.

    A grader that fails on a row, for want of a key in it or because the row's own answer is not
    JSON, would score 0 whatever the model does.

    Args:
        spec: The task.
        rows: Of its file, in order; no more than `limit` of them are read.
        renderer: Of the base.

    Raises:
        DataError: There are no rows, or one cannot be rendered or graded; names file and row.
        RecipeError: The grader names a key that a row does not have.
    """
    grading = replace(graders.open(spec.grader), within=SHARE)
    task = TaskRows(spec.name, [], [], [], [], [], spec.max_new_tokens, grading)
    for row in islice(rows, spec.limit):
        _add(task, row, renderer)
    if not task.prompts:
        raise DataError(spec.path, got="no rows", expected="at least one for the task")
    return task


def _add(task: TaskRows, row: Row, renderer: Renderer) -> None:
    """Append one row to the lists of `task`, checked."""
    where = place(row.source, row.number)
    content = row.content
    if not isinstance(content, Conversation):
        raise DataError(where, got="a text without a prompt", expected="a prompt and its answer")
    try:
        task.prompts.append(renderer.prompt(content))
        answered = content.messages[-1].role == "assistant"
        reference = renderer.reference(content) if answered else ""
    except RowProblem as problem:
        raise problem.at(row.source, row.number) from problem
    _check_gradable(task.grading.grader, reference, row.raw, where)
    task.references.append(reference)
    task.raw.append(row.raw)
    task.places.append(where)
    questions = [message.content for message in content.messages if message.role == "user"]
    task.asked.append(questions[-1] if questions else "")


def _check_gradable(grader: Grader, reference: str, raw: dict[str, Any], where: str) -> None:
    try:
        grader.check(reference, raw)
    except TunesmithError as error:
        raise type(error)(
            f"{where}: {error.where}", got=error.got, expected=error.expected, hint=error.hint
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            where,
            got=f"{show(reference)}, which {grader.name} cannot grade: {error}",
            expected="an answer that the task's grader can compare with",
        ) from error


def run_task(task: TaskRows, generate_texts: GenerateTexts) -> TaskResult:
    """Let a model answer every row, and grade what it says.

    Args:
        task: From `prepare_task`.
        generate_texts: The model: prompts and the longest answer in, outputs without their stop
            tokens out.

    Returns:
        Outputs and scores in the order of the rows. A row on whose output the grader raises, or
        gives no number from 0 to 1, scores 0 and is listed in `failures`. A grader that reads no
        output leaves the model unasked; then its own words stand for the outputs.
    """
    reads = task.grading.grader.reads_output
    asked = generate_texts(task.prompts, task.max_new_tokens) if reads else [""] * len(task)
    grades = task.grading.grade_all(asked, task.references, task.raw, task.prompts)
    outputs = asked if reads else grades.said
    failures = [Failure(task.places[i], reason) for i, reason in grades.failures.items()]
    return TaskResult(task.name, outputs, grades.scores, failures)
