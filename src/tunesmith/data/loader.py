"""Serves the batches of any step, the next one made ready in the background."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from tunesmith.data.collate import collate
from tunesmith.data.example import Batch
from tunesmith.data.order import Schedule
from tunesmith.data.planner import Layout, costs
from tunesmith.data.prepared import Prepared
from tunesmith.data.survey import SURVEYED, Survey


class Loader:
    """Batches by step. It holds no place: `step(i)` is the same whenever it is asked.

    All that can change is which examples are left out.

    Args:
        prepared: The examples.
        schedule: Which of them come when.
        layout: How those of a step are laid out in forward passes.
        pad_id: For batches that are padded.
    """

    def __init__(self, prepared: Prepared, schedule: Schedule, layout: Layout, pad_id: int) -> None:
        self._prepared, self._schedule = prepared, schedule
        self._layout, self._pad_id = layout, pad_id
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._next: tuple[int, Future[list[Batch]]] | None = None
        self._left_out = np.empty(0, dtype=np.int64)

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the run."""
        return self._schedule.num_steps

    @property
    def num_examples(self) -> int:
        """Examples of the data, those left out counted."""
        return len(self._prepared)

    def step(self, index: int) -> list[Batch]:
        """The micro-batches of a step, counted from 0; none where all its examples are left out.

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

    def again(self, index: int) -> list[Batch]:
        """The batches of a step as planned, out of turn and with what is left out by now."""
        planned = self._passes(self._schedule.examples(index))
        return [self.batch(examples) for examples in planned]

    def leave_out(self, examples: Iterable[int]) -> None:
        """Go on without these examples, and with all others in the places they have."""
        self._left_out = np.array(sorted(examples), dtype=np.int64)
        self._next = None

    def examples(self, index: int) -> list[int]:
        """The examples of a step, without those left out."""
        found = self._schedule.examples(index)
        return found[~np.isin(found, self._left_out)].tolist()

    def places(self, examples: Iterable[int]) -> tuple[tuple[str, int], ...]:
        """File and row number of each of these examples."""
        return tuple(self._prepared.place(example) for example in examples)

    def planned_examples(self) -> np.ndarray:
        """(n,) the examples that any step of the run is planned to train on, rising."""
        found, epoch, left = np.zeros(self.num_examples, dtype=bool), 0, self.num_steps
        while left > 0 and not found.all():
            plan = self._schedule.plan(epoch)
            found[plan.order[: plan.bounds[min(left, plan.num_steps)]]] = True
            left -= plan.num_steps
            epoch += 1
        return np.flatnonzero(found)

    def worst(self) -> Batch:
        """The most expensive forward pass that is really planned, over all epochs of the run."""
        most, worst = -1.0, np.empty(0, dtype=np.int64)
        epoch, left = 0, self.num_steps
        while left > 0:
            plan = self._schedule.plan(epoch)
            bounds = self._layout.most(self._prepared.lengths[plan.order], plan.bounds[:-1])[:left]
            # Steps in the order of what they cost at most: the first ones decide.
            for step in np.argsort(-bounds, kind="stable"):
                if bounds[step] <= most:
                    break
                examples = plan.examples(int(step))
                lengths = self._prepared.lengths[examples]
                first = self._layout.passes(lengths)[0]
                if self._layout.cost(lengths[first]) > most:
                    most, worst = self._layout.cost(lengths[first]), examples[first]
            left -= plan.num_steps
            epoch += 1
        return self.batch(worst)

    def survey(self, most: int = SURVEYED) -> Survey:
        """The passes of at most so many steps."""
        number = min(most, self.num_steps)
        steps = (np.arange(number) * self.num_steps // number).tolist()
        planned = [(step, examples) for step in steps for examples in self._planned(step)]
        counted = [self._layout.counted(self._prepared.lengths[e]) for _, e in planned]
        return Survey(
            examples=[examples for _, examples in planned],
            step=np.array([step for step, _ in planned]),
            cost=np.array([costs(lengths).sum() for lengths in counted]),
            tokens=np.array([lengths.sum() for lengths in counted]),
            squares=np.array([np.square(lengths.astype(np.float64)).sum() for lengths in counted]),
            real_tokens=np.array([self._prepared.lengths[e].sum() for _, e in planned]),
        )

    def batch(self, examples: np.ndarray) -> Batch:
        """One forward pass of these examples, as one of `survey`."""
        made = [self._prepared[int(example)] for example in examples]
        return collate(made, self._layout.packed, self._pad_id)

    def epoch_after(self, index: int) -> float:
        """How many epochs are done when step `index` is."""
        epoch, inside = self._schedule.locate(index)
        return epoch + (inside + 1) / self._schedule.steps_in(epoch)

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _make(self, index: int) -> list[Batch]:
        return [self.batch(examples) for examples in self._planned(index)]

    def _planned(self, index: int) -> list[np.ndarray]:
        """The examples of each pass of a step."""
        return self._passes(np.array(self.examples(index), dtype=np.int64))

    def _passes(self, examples: np.ndarray) -> list[np.ndarray]:
        if not len(examples):
            return []
        return [examples[each] for each in self._layout.passes(self._prepared.lengths[examples])]
