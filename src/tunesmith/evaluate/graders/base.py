"""What a grader file defines, and what it becomes once its keys are read.

A grader file holds, below a docstring whose first line says what the score means, `Config`, a
`Section` (the grader's JSON: `type` is the file's name, and `name`), and one of

    grade(config, output, reference, row) -> float
        for a grader that needs nothing else and is quick
    score_all(config, answers, means) -> list[Scored]
        for one that grades many together: in a sandbox, by a model, by other graders

Where the defaults do not fit, it also holds

    check(config, reference, row)     raises what `grade` would where a row cannot be graded,
                                      whatever is answered to it; needed beside `score_all`
    prepare(config, means)            opens the models that will be asked, and raises where it
                                      cannot: called before a run, rather than in its midst
    bounds(config) -> (low, high)     where scores lie; 0 and 1. None where nobody knows
    reads_output(config) -> bool      whether there must be an output; true
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tunesmith.config.section import Section
from tunesmith.evaluate.means import NO_MEANS, Means

Grade = Callable[[Any, str, str, Mapping[str, Any]], float]
"""`grade(config, output, reference, row)` of a grader file."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An output with all that it may be graded by.

    Attributes:
        output: What the model wrote, without its stop token.
        reference: The row's own answer; empty when it has none.
        row: The row as it stands in the file.
        prompt: Token ids that the output answers; empty where they are not known.
    """

    output: str
    reference: str
    row: Mapping[str, Any]
    prompt: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """What a grader says of one output.

    Attributes:
        score: Any finite number; 0 for an output that could not be graded.
        failure: Why it, or a part of it, could not be graded; empty where it could.
        said: What stands for the output of a grader that reads none.
    """

    score: float
    failure: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True)
class Grader:
    """A grader file together with its keys.

    Attributes:
        config: The grader's JSON, read; has `type` and `name`.
        file: What the file defines.
    """

    config: Section
    file: ModuleType

    @property
    def name(self) -> str:
        """What the recipe calls it; the name of the file when it has no name of its own."""
        values = self.config.model_dump(include={"name", "type"})
        return values["name"] or values["type"]

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the greatest score there can be; None where that is not known."""
        return self.file.bounds(self.config) if hasattr(self.file, "bounds") else (0.0, 1.0)

    @property
    def reads_output(self) -> bool:
        """Whether there must be an output to grade."""
        return self.file.reads_output(self.config) if hasattr(self.file, "reads_output") else True

    def __call__(self, output: str, reference: str, row: Mapping[str, Any]) -> float:
        """Score one output without other means.

        Args:
            output: What the model wrote, without its stop token.
            reference: The row's own answer; empty when it has none.
            row: The row as it stands in the file.

        Returns:
            A score within `bounds`; mostly from 0, wrong, to 1, right.

        Raises:
            RecipeError: The row has no such key as the grader names.
            ValueError: The row cannot be graded.
        """
        if hasattr(self.file, "grade"):
            return self.file.grade(self.config, output, reference, row)
        scored = self.score_all([Answered(output, reference, row)], NO_MEANS)[0]
        if scored.failure:
            raise ValueError(scored.failure)
        return scored.score

    def check(self, reference: str, row: Mapping[str, Any]) -> None:
        """Raise what grading would raise where the row cannot be graded, whatever is answered."""
        if hasattr(self.file, "check"):
            self.file.check(self.config, reference, row)
        else:
            self.file.grade(self.config, reference, reference, row)

    def prepare(self, means: Means) -> None:
        """Open the models that will be asked.

        Raises:
            TunesmithError: One of them cannot be opened.
        """
        if hasattr(self.file, "prepare"):
            self.file.prepare(self.config, means)

    def score_all(self, answers: Sequence[Answered], means: Means) -> list[Scored]:
        """Score many outputs, in their order.

        Raises:
            TunesmithError: The grader as a whole cannot do its work: there is no such model, the
                endpoint does not answer, its source is no program.
        """
        if hasattr(self.file, "score_all"):
            return self.file.score_all(self.config, answers, means)
        return [self._score(answer) for answer in answers]

    def _score(self, answer: Answered) -> Scored:
        try:
            return Scored(self.file.grade(self.config, answer.output, answer.reference, answer.row))
        # The border that keeps a grader from ending a run.
        except Exception as error:
            return failed(error)


def failed(error: Exception) -> Scored:
    """A score of 0 for what `error` says."""
    return Scored(0.0, str(error).splitlines()[0] if str(error) else type(error).__name__)


def need_reference(reference: str) -> None:
    """Raise a ValueError when there is nothing to compare with, rather than score it."""
    if not reference.strip():
        raise ValueError("the row has no answer to compare with")
