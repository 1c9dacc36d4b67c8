"""Asks a judge about many outputs, and reads each answer into a score."""

import os
from collections.abc import Callable, Sequence

from tunesmith.errors import RecipeError
from tunesmith.evaluate.graders.base import Answered, Scored, failed
from tunesmith.evaluate.judges import kept
from tunesmith.evaluate.judges.endpoint import Endpoint
from tunesmith.evaluate.judges.section import JudgeSection
from tunesmith.evaluate.means import Judge, Means, Messages, Unanswered


def scores(
    section: JudgeSection,
    form: str,
    answers: Sequence[Answered],
    means: Means,
    read: Callable[[str], float],
) -> list[Scored]:
    """What the judge says of each output.

    Args:
        section: The judge and its questions.
        form: How it is to answer.
        answers: Outputs with their rows.
        means: Opens a local judge.
        read: From its answer to a score; raises a ValueError where that gives none.

    Returns:
        A score each; 0 with the reason where there is no question, no answer, or no score in it.

    Raises:
        TunesmithError: The judge cannot be opened, or answers nothing at all.
    """
    asked = [_question(section, form, answer) for answer in answers]
    questions = [question for question in asked if isinstance(question, list)]
    said = iter(
        kept.answers(open_judge(section, means), questions, section.sampling_params.drawing())
    )
    return [each if isinstance(each, Scored) else _scored(next(said), read) for each in asked]


def open_judge(section: JudgeSection, means: Means) -> Judge:
    """The judge of a grader.

    Raises:
        RecipeError: The variable of its key is not set, or there is no such local model.
    """
    if not section.endpoint:
        return means.open_judge(section.model)
    key = os.environ.get(section.key_variable, "") if section.key_variable else ""
    if section.key_variable and not key:
        raise RecipeError(
            "grader: key_variable",
            got=f"{section.key_variable}, which is not set",
            expected="an environment variable with the key of the endpoint",
            hint=f"export {section.key_variable}=...",
        )
    return Endpoint(section.endpoint, section.model, key, section.timeout_seconds, section.parallel)


def _question(section: JudgeSection, form: str, answer: Answered) -> Messages | Scored:
    try:
        return section.question(form, answer.output, answer.reference, answer.row)
    except ValueError as error:
        return failed(error)


def _scored(said: str | Unanswered, read: Callable[[str], float]) -> Scored:
    if isinstance(said, Unanswered):
        return Scored(0.0, said.reason)
    try:
        return Scored(read(said))
    except ValueError as error:
        return failed(error)
