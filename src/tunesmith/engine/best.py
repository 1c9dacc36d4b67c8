"""Which checkpoint is the one to export: the best task score within the forgetting budget."""

from collections.abc import Iterable
from dataclasses import replace
from math import inf, isnan

from tunesmith.runs.events import Evaluated


def best_step(
    history: Iterable[Evaluated], budget: float | None, task: str | None = None
) -> int | None:
    """The step of the best evaluation after training began.

    The first task's score decides; without tasks, the held-out loss; without either, the latest
    step. Equal scores go to the lower held-out loss, then to the earlier step. An evaluation that
    lacks the measure that decides, or has NaN there, comes after all that have it.

    Args:
        history: Evaluations in any order; step 0 is the base and cannot be chosen.
        budget: Largest allowed KL from the base; None allows any.
        task: Name of the task that decides; the first one of each evaluation when left out.

    Returns:
        None when no evaluation stays within the budget, or there is none.
    """
    return next(iter(ranking(history, budget, task)), None)


def ranking(
    history: Iterable[Evaluated], budget: float | None, task: str | None = None
) -> list[int]:
    """All steps that `best_step` may choose, the best first."""
    candidates = [e for e in history if e.step > 0 and within(e, budget)]
    candidates.sort(key=lambda each: _merit(_scored_by(each, task)), reverse=True)
    return [each.step for each in candidates]


def beats(one: Evaluated, other: Evaluated, task: str | None = None) -> bool:
    """Whether `one` is better by score, or by loss where scores are equal; steps do not count."""
    return _merit(_scored_by(one, task))[:2] > _merit(_scored_by(other, task))[:2]


def within(evaluated: Evaluated, budget: float | None) -> bool:
    """Whether the KL from the base is measured and within `budget`."""
    if budget is None:
        return True
    return evaluated.forgetting is not None and evaluated.forgetting.kl <= budget


def _scored_by(evaluated: Evaluated, task: str | None) -> Evaluated:
    """The same with the score of that task alone, if it has one."""
    if task is None:
        return evaluated
    return replace(evaluated, tasks=tuple(t for t in evaluated.tasks if t.name == task))


def _merit(evaluated: Evaluated) -> tuple[float, float, float]:
    score = _known(evaluated.tasks[0].score if evaluated.tasks else None)
    loss = _known(None if evaluated.loss is None else -evaluated.loss)
    measured = score > -inf or loss > -inf
    return score, loss, float(-evaluated.step if measured else evaluated.step)


def _known(value: float | None) -> float:
    return -inf if value is None or isnan(value) else value
