"""What answers are worth: the graders of a method, their scores added up by their weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunesmith.engine.rollouts.sampler import Graded, Question
from tunesmith.errors import RecipeError, TunesmithError
from tunesmith.evaluate import graders
from tunesmith.evaluate.graders.base import Grader
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

    graders: tuple[tuple[str, Grader, float], ...]

    def __call__(self, outputs: Sequence[str], questions: Sequence[Question]) -> Graded:
        """Score outputs; one that a grader fails on gets nothing from it."""
        total = np.zeros(len(outputs))
        scores, failures = {}, dict[int, str]()
        for name, grader, weight in self.graders:
            each = np.zeros(len(outputs))
            for i, (output, question) in enumerate(zip(outputs, questions, strict=True)):
                try:
                    each[i] = _checked(grader(output, question.reference, question.raw))
                # The border that keeps a grader from ending a run.
                except Exception as error:
                    failures[i] = f"{name}: {_first_line(error)}"
            scores[name] = each
            total += weight * each
        return Graded(total, scores if len(scores) > 1 else {}, failures)

    def require(self, questions: Sequence[tuple[str, Question]]) -> None:
        """See that rows can be graded, by their own answers.

        Args:
            questions: With the place of each row, for messages.

        Raises:
            RecipeError: A grader cannot grade one of the first of them.
        """
        for where, question in questions[:CHECKED_ROWS]:
            for name, grader, _ in self.graders:
                try:
                    grader(question.reference, question.reference, question.raw)
                except (TunesmithError, ValueError, TypeError, KeyError) as error:
                    raise RecipeError(
                        f"method.grader: {name}",
                        got=f"{where}, whose own answer it cannot grade: {_first_line(error)}",
                        expected="a grader that can grade the answers of the rows",
                    ) from error


def build_rewards(config: Sampled) -> Rewards:
    """The graders of the recipe's `method.grader`.

    Raises:
        RecipeError: There is no such grader, a key of it is wrong, or two have one name.
    """
    several = isinstance(config.grader, list)
    given = config.grader if several else [Reward(grader=config.grader)]
    if not given:
        raise RecipeError("method.grader", got="an empty list", expected="at least one grader")
    found = []
    for number, each in enumerate(given):
        where = f"method.grader.{number}.grader" if several else "method.grader"
        grader = graders.build(each.grader, where)
        found.append((each.name or grader.name, grader, each.weight))
    names = [name for name, _, _ in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RecipeError("method.grader", got=f"{twice} twice", expected="a name for each grader")
    return Rewards(tuple(found))


def _checked(score: float) -> float:
    if not np.isfinite(score):
        raise ValueError(f"a score of {score}; expected a number")
    return float(score)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
