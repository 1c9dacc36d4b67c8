"""Asks a judge about many outputs, and reads each answer into a score."""

from collections.abc import Callable, Sequence

from tunesmith.evaluate.graders.base import Answered, Scored, failed
from tunesmith.evaluate.judges import kept
from tunesmith.evaluate.judges.section import JudgeSection
from tunesmith.evaluate.means import Means, Messages, Unanswered


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
    said = iter(kept.answers(section.judge(means), questions, section.drawing()))
    return [each if isinstance(each, Scored) else _scored(next(said), read) for each in asked]


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
