"""Which checkpoint is the one to export: the best task score within the forgetting budget."""

from collections.abc import Iterable

from tunesmith.runs.events import Evaluated


def best_step(history: Iterable[Evaluated], budget: float | None) -> int | None:
    """The step of the best evaluation after training began.

    The first task's score decides; without tasks, the held-out loss; without either, the latest
    step. Equal scores go to the lower held-out loss, then to the earlier step.

    Args:
        history: Evaluations in any order; step 0 is the base and cannot be chosen.
        budget: Largest allowed KL from the base; None allows any.

    Returns:
        None when no evaluation stays within the budget, or there is none.
    """
    candidates = [e for e in history if e.step > 0 and within(e, budget)]
    if not candidates:
        return None
    return max(candidates, key=_merit).step


def within(evaluated: Evaluated, budget: float | None) -> bool:
    """Whether the KL from the base is measured and within `budget`."""
    if budget is None:
        return True
    return evaluated.forgetting is not None and evaluated.forgetting.kl <= budget


def _merit(evaluated: Evaluated) -> tuple[float, float, float]:
    score = evaluated.tasks[0].score if evaluated.tasks else 0.0
    loss = -evaluated.loss if evaluated.loss is not None else 0.0
    measured = bool(evaluated.tasks) or evaluated.loss is not None
    return score, loss, float(-evaluated.step if measured else evaluated.step)
