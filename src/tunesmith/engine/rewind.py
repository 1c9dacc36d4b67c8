"""Going back: to the last checkpoint that later steps proved healthy, past the rows to blame."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from tunesmith.checkpoint.retain import drop_after
from tunesmith.checkpoint.verify import latest
from tunesmith.data.loader import Loader
from tunesmith.engine.ema import Ema
from tunesmith.engine.guard import MAX_RETURNS, Guard
from tunesmith.engine.saving import read_history, restore
from tunesmith.errors import RunError
from tunesmith.runs.events import Evaluated, Event, Warned, WentBack

MAX_NAMED = 16
"""Rows that a message names; the events and the report name all."""


@dataclass
class Rewind:
    """Brings a run back.

    Where it goes, and what it leaves out, follow from what the guard holds: a run that is killed
    and resumed from a checkpoint before the turn takes the same turn again.

    Attributes:
        root: The run's `checkpoints` folder.
        trained: The trained parameters by name.
        optimizer: Over them.
        ema: Their average, if one is kept.
        guard: Says which checkpoint is healthy, and which rows are to blame.
        loader: Leaves them out.
        history: The evaluations so far, by step.
        notice: Where `WentBack` is told.
    """

    root: Path
    trained: dict[str, nn.Parameter]
    optimizer: Optimizer
    ema: Ema | None
    guard: Guard
    loader: Loader
    history: dict[int, Evaluated]
    notice: Callable[[Event], None]

    def __call__(self, done: int, why: str, again: bool) -> int:
        """Go back from `done` steps because of `why`; returns the steps done then.

        Raises:
            RunError: This was not to be tried `again`, has been too often, or most rows would be
                left out. Parameters and the newest checkpoint are then those gone back to.
        """
        rows = self.loader.places(self.guard.blamed)
        step, values = self._restore(done, why, rows)
        # Nothing is newer now than where the run stands: those were made by what went wrong.
        drop_after(self.root, step)
        self.guard.go_back(step, values["guard"])
        self.loader.leave_out(self.guard.left_out)
        self.history.clear()
        self.history.update(read_history(values))
        self.notice(WentBack(done, step, why, rows))
        if not again or self.guard.returns > MAX_RETURNS:
            raise diverged(done, f"{why}{self._tried()}", self._left_out())
        if 2 * len(self.guard.left_out) > self.loader.num_examples:
            many = f"{len(self.guard.left_out)} of the {self.loader.num_examples} rows"
            raise diverged(done, f"{why}{self._tried()}; so {many} would be left out", rows)
        return step

    def _tried(self) -> str:
        before = self.guard.returns - 1
        return f"; gone back {before} time{'s' if before > 1 else ''} before" if before else ""

    def _left_out(self) -> tuple[tuple[str, int], ...]:
        return self.loader.places(self.guard.left_out)

    def _restore(
        self, done: int, why: str, rows: tuple[tuple[str, int], ...]
    ) -> tuple[int, dict[str, Any]]:
        """Restore the highest healthy checkpoint that verifies."""
        found = latest(self.root, self.guard.healthy)
        for bad, problem in found.quarantined:
            self.notice(Warned(f"checkpoint {bad} was set aside: {problem}"))
        if found.manifest is None:
            raise diverged(done, f"{why}; no sound checkpoint to go back to", rows)
        state = restore(found.manifest.folder, self.trained, self.optimizer, self.ema)
        return found.manifest.step, state


def diverged(done: int, why: str, rows: tuple[tuple[str, int], ...] = ()) -> RunError:
    """The error of a run that cannot go on.

    Args:
        done: Steps done.
        why: What went wrong in the last of them.
        rows: Those of rejected steps.
    """
    named = ", ".join(f"{source}:{row}" for source, row in rows[:MAX_NAMED])
    more = f" and {len(rows) - MAX_NAMED} more" if len(rows) > MAX_NAMED else ""
    rejected = f"; rows of rejected steps: {named}{more}" if named else ""
    return RunError(
        f"step {done}",
        got=f"a run that diverged: {why}{rejected}",
        expected="finite numbers, and a loss near that of the steps before",
        hint="lower train.learning_rate, set train.precision: fp32, or look at the rows named",
    )
