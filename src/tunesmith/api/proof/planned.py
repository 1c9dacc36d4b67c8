"""The plan of a run as a fresh process makes it: which rows come in which step."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.api import lock
from tunesmith.api.batches import build_loader, build_schedule
from tunesmith.api.learner import build_base
from tunesmith.api.rows import build_rows
from tunesmith.data.example import digest
from tunesmith.data.loader import Loader
from tunesmith.data.order import Schedule
from tunesmith.engine.rollouts.loader import Rollouts
from tunesmith.recipe import Recipe

MOST_STEPS = 512
"""Steps whose rows are looked up, so that a step with wrong rows can be told from where they are;
512 steps of eight short rows take about a second."""
MOST_ROWS = 8
"""Rows of one step that are named."""

Rows = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Planned:
    """What the recipe has in store.

    Attributes:
        schedule: Which examples come when.
        num_steps: Optimizer steps of the run.
        rows: Rows of the first steps, in the order in which they are trained on; of a method that
            draws answers, those whose prompts are answered for the step.
        digests: Hash of what each of these steps is trained on; empty where answers are drawn, as
            no plan can know them.
        num_heldout: Held-out rows.
        lock: What `lock.json` would say of a run begun now.
    """

    schedule: Schedule
    num_steps: int
    rows: list[Rows]
    digests: list[str]
    num_heldout: int
    lock: dict[str, Any]

    @classmethod
    def of(cls, recipe: Recipe) -> "Planned":
        """The plan of a resolved recipe.

        Raises:
            TunesmithError: As `train` would before its first step.
        """
        base = build_base(recipe)
        rows = build_rows(recipe, base)
        loader = build_loader(recipe, rows)
        with closing(loader):
            planned, digests = _steps(loader, min(loader.num_steps, MOST_STEPS))
        return cls(
            schedule=build_schedule(recipe, rows),
            num_steps=loader.num_steps,
            rows=planned,
            digests=digests,
            num_heldout=len(rows.heldout) if rows.heldout else 0,
            lock=lock.describe(recipe, base.source, rows.sha256),
        )

    def told(self, found: str, step: int) -> str:
        """The rows behind a digest, in words; `step` (from 1) is where they were met."""
        if not self.digests:
            return "other answers"
        if found not in self.digests:
            return "rows or tokens that no step of the plan has"
        number = step - 1
        if self.digests[number] != found:
            number = self.digests.index(found)
        rows = [f"{Path(source).name}:{row}" for source, row in self.rows[number]]
        more = f" and {len(rows) - MOST_ROWS} more" if len(rows) > MOST_ROWS else ""
        whose = "" if number == step - 1 else f" (planned for step {number + 1})"
        return f"rows {', '.join(rows[:MOST_ROWS])}{more}{whose}"


def _steps(loader: Loader, number: int) -> tuple[list[Rows], list[str]]:
    """Rows and digests of the first steps."""
    if isinstance(loader, Rollouts):
        return [loader.places(loader.planned(step)) for step in range(number)], []
    steps = [loader.step(step) for step in range(number)]
    rows = [tuple(row for batch in batches for row in batch.rows) for batches in steps]
    return rows, [digest(batches) for batches in steps]
