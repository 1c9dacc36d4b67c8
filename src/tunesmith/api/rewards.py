"""What answers are worth: the graders of a method, their scores added up by their weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunesmith.engine.rollouts.sampler import Graded, Question
from tunesmith.errors import RecipeError, TunesmithError
from tunesmith.evaluate import graders
from tunesmith.evaluate.graders import Grading
from tunesmith.evaluate.means import NO_MEANS, Means
from tunesmith.methods._sampled import Reward, Sampled

CHECKED_ROWS = 64
"""Rows whose own answers are graded before the first step: a grader that wants a key which rows do
not have would give nothing all the time, and one that asks another model is slow."""


@dataclass(frozen=True, slots=True)
class Rewards:
    """The graders of a method.

    Attributes:
        graders: Each with its name and weight.
    """

    graders: tuple[tuple[str, Grading, float], ...]

    def __call__(self, outputs: Sequence[str], questions: Sequence[Question]) -> Graded:
        """Score outputs; one that a grader fails on gets nothing from it."""
        total = np.zeros(len(outputs))
        scores, failures = {}, dict[int, str]()
        references = [question.reference for question in questions]
        rows = [question.raw for question in questions]
        for name, grading, weight in self.graders:
            grades = grading.grade_all(outputs, references, rows)
            failures |= {i: f"{name}: {why}" for i, why in grades.failures.items()}
            scores[name] = grades.scores
            total += weight * grades.scores
        return Graded(total, scores if len(scores) > 1 else {}, failures)

    def require(self, questions: Sequence[tuple[str, Question]]) -> None:
        """See that rows can be graded, by their own answers.

        Args:
            questions: With the place of each row, for messages.

        Raises:
            RecipeError: A grader cannot grade one of the first of them.
        """
        for where, question in questions[:CHECKED_ROWS]:
            for name, grading, _ in self.graders:
                try:
                    grading.grader.check(question.reference, question.raw)
                except (TunesmithError, ValueError, TypeError, KeyError) as error:
                    raise RecipeError(
                        f"method.grader: {name}",
                        got=f"{where}, whose own answer it cannot grade: {_first_line(error)}",
                        expected="a grader that can grade the answers of the rows",
                    ) from error


def build_rewards(config: Sampled, means: Means = NO_MEANS) -> Rewards:
    """The graders of the recipe's `method.grader`.

    Args:
        config: Of the method.
        means: Models that graders may ask; those that they will ask are opened.

    Raises:
        TunesmithError: A model that cannot be opened.
        RecipeError: There is no such grader, a key of it is wrong, or two have one name.
    """
    several = isinstance(config.grader, list)
    given = config.grader if several else [Reward(grader=config.grader)]
    if not given:
        raise RecipeError("method.grader", got="an empty list", expected="at least one grader")
    found = []
    for number, each in enumerate(given):
        where = f"method.grader.{number}.grader" if several else "method.grader"
        grading = graders.open(each.grader, means, where)
        grading.grader.prepare(means)
        found.append((each.name or grading.grader.name, grading, each.weight))
    names = [name for name, _, _ in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RecipeError("method.grader", got=f"{twice} twice", expected="a name for each grader")
    return Rewards(tuple(found))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
