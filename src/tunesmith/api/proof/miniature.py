"""What `prove` trains: the first steps of a recipe, with checkpoints close enough to be cut short.

Everything that decides on a bit of the weights stays: base, rows, adapter, method, the whole of
`train`, and with it the order and the learning rates of the whole run. Only what is measured
meanwhile and how often is saved are made small.
"""

from dataclasses import dataclass
from typing import TypeVar

from tunesmith.config.section import Section
from tunesmith.errors import CommandError
from tunesmith.recipe import Recipe

S = TypeVar("S", bound=Section)

STEPS = 6
"""Steps trained when the user names no number."""
MOST_STEPS = 9
"""Steps up to which the proof grows so that it passes the end of an epoch."""
KEEP = 2
TASK_ROWS, TASK_TOKENS = 2, 8
"""Of the first task, answered between steps: enough to show that measuring changes no bit."""
HELDOUT_ROWS = 64
"""Most held-out rows that are measured where the recipe has no task."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How far the proof trains, and where it is cut short.

    The first time the run is killed inside the save of step `second`, so that it goes on from
    `first` and repeats steps; then right after that save, so that it goes on from `second`.

    Attributes:
        steps: Trained in all.
        first: Step of the first checkpoint, in the midst of an epoch where that is possible.
    """

    steps: int
    first: int

    @property
    def second(self) -> int:
        """Step of the second checkpoint."""
        return 2 * self.first


def cut(num_steps: int, epoch_steps: int, asked: int | None) -> Cut:
    """Choose where to end and where to cut.

    Args:
        num_steps: Of the whole run.
        epoch_steps: Of its first epoch.
        asked: Steps that the user wants; None leaves it to the schedule.

    Raises:
        CommandError: More steps than the run has, or too few to be cut.
    """
    if num_steps < 2:
        raise CommandError(
            "a proof of resume",
            got="a run of one step",
            expected="at least 2 steps, so that there is something to go on with",
        )
    if asked is not None and not 2 <= asked <= num_steps:
        raise CommandError("--steps", got=str(asked), expected=f"2 to {num_steps}")
    across = epoch_steps + 1
    steps = asked or min(across if STEPS < across <= MOST_STEPS else STEPS, num_steps)
    third = max(steps // 3, 1)
    inside = [k for k in (third, third + 1, third - 1) if k >= 1 and 2 * k <= steps]
    return Cut(steps, next((k for k in inside if k % epoch_steps), inside[0]))


def measured(recipe: Recipe, where: Cut, num_heldout: int) -> Recipe:
    """The recipe in small, measured at each checkpoint by what it is measured by itself."""
    tasks = [
        _with(task, limit=TASK_ROWS, max_new_tokens=min(task.max_new_tokens, TASK_TOKENS))
        for task in recipe.evaluate.tasks[:1]
    ]
    small = plain(recipe, where)
    keeps = not tasks and num_heldout <= HELDOUT_ROWS
    return _with(
        small,
        data=_with(small.data, eval=recipe.data.eval if keeps else None),
        evaluate=_with(small.evaluate, every=where.first, tasks=tasks),
    )


def plain(recipe: Recipe, where: Cut) -> Recipe:
    """The recipe in small, measured by nothing."""
    unmeasured = {"every": None, "tasks": [], "probes": [], "forgetting_budget": None}
    return _with(
        recipe,
        data=_with(recipe.data, eval=None),
        evaluate=_with(recipe.evaluate, **unmeasured),
        checkpoint=_with(recipe.checkpoint, every=where.first, keep=KEEP),
    )


def _with(section: S, **values: object) -> S:
    return section.model_copy(update=values)
