"""Serves the batches of any step, the next one made ready in the background."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from tunesmith.data.collate import collate
from tunesmith.data.example import Batch
from tunesmith.data.order import EpochPlan, Schedule
from tunesmith.data.prepared import Prepared

ATTENTION_TOKENS = 4096
"""Length at which attention costs about as much as all else of a small model; see `_costs`."""


class Loader:
    """Batches by step. It holds no place: `step(i)` is the same whenever it is asked.

    Args:
        prepared: The examples.
        schedule: Which of them come when.
        packed: Whether batches are laid end to end.
        pad_id: For batches that are not.
    """

    def __init__(self, prepared: Prepared, schedule: Schedule, packed: bool, pad_id: int) -> None:
        self._prepared, self._schedule = prepared, schedule
        self._packed, self._pad_id = packed, pad_id
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._next: tuple[int, Future[list[Batch]]] | None = None

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the run."""
        return self._schedule.num_steps

    def step(self, index: int) -> list[Batch]:
        """The micro-batches of a step, counted from 0.

        Raises:
            IndexError: There is no such step.
        """
        if not 0 <= index < self.num_steps:
            raise IndexError(f"step {index} of {self.num_steps}")
        ready = self._next if self._next and self._next[0] == index else None
        batches = ready[1].result() if ready else self._thread.submit(self._make, index).result()
        self._next = None
        if index + 1 < self.num_steps:
            self._next = (index + 1, self._thread.submit(self._make, index + 1))
        return batches

    def worst(self) -> Batch:
        """The most expensive micro-batch that is really planned, over all epochs of the run."""
        most, worst, left = -1.0, np.empty(0, dtype=np.int64), self.num_steps
        epoch = 0
        while left > 0:
            plan = self._schedule.plan(epoch)
            planned = min(plan.num_batches, left * self._schedule.accumulate)
            costs = self._costs(plan)[:planned]
            if costs.max() > most:
                most, worst = costs.max(), plan.batch(int(costs.argmax()))
            left -= self._schedule.steps_in(epoch)
            epoch += 1
        return self._batch(worst)

    def epoch_after(self, index: int) -> float:
        """How many epochs are done when step `index` is."""
        epoch, inside = self._schedule.locate(index)
        return epoch + (inside + 1) / self._schedule.steps_in(epoch)

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _make(self, index: int) -> list[Batch]:
        return [self._batch(rows) for rows in self._schedule.indices(index)]

    def _batch(self, rows: np.ndarray) -> Batch:
        return collate([self._prepared[int(row)] for row in rows], self._packed, self._pad_id)

    def _costs(self, plan: EpochPlan) -> np.ndarray:
        """(B,) tokens of each batch, and their squares for attention; see ATTENTION_TOKENS.

        With padding, every line counts as the longest.
        """
        lengths = self._prepared.lengths[plan.order].astype(np.float64)
        starts = plan.bounds[:-1]
        if self._packed:
            tokens = np.add.reduceat(lengths, starts)
            squares = np.add.reduceat(np.square(lengths), starts)
        else:
            longest = np.maximum.reduceat(lengths, starts)
            tokens = longest * np.diff(plan.bounds)
            squares = longest * tokens
        return tokens + squares / ATTENTION_TOKENS
