"""Which example comes when: pure functions of the seed and the epoch, so resuming only seeks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tunesmith.data.mixing import phrased, shuffled, with_replay
from tunesmith.errors import RecipeError


def epoch_order(
    num_rows_per_file: Sequence[int], weights: Sequence[float], seed: int, epoch: int
) -> np.ndarray:
    """The examples of an epoch, in the order they are trained on.

    Args:
        num_rows_per_file: Examples of each file; they are numbered file by file.
        weights: Times that each file's rows are seen: the whole part is copies of every row, the
            fraction a share of the rows, drawn anew each epoch.
        seed: Of the run.
        epoch: Counted from 0.

    Returns:
        int64; a permutation of all examples where every weight is 1. Raw bits of PCG64 are sorted,
        since numpy keeps those the same from release to release, but not its `permutation`.
    """
    parts, first = [], 0
    for file, (rows, weight) in enumerate(zip(num_rows_per_file, weights, strict=True)):
        every = np.arange(first, first + rows, dtype=np.int64)
        copies = int(weight)
        rest = round((weight - copies) * rows)
        parts.extend([every] * copies)
        parts.append(every[shuffled(rows, (seed, epoch, file + 1))[:rest]])
        first += rows
    chosen = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    return chosen[shuffled(len(chosen), (seed, epoch, 0))]


def plan_batches(
    lengths: np.ndarray, order: np.ndarray, batch_rows: int | None, batch_tokens: int | None
) -> np.ndarray:
    """Cuts an order into batches of consecutive examples.

    Args:
        lengths: Tokens of each example.
        order: Examples of an epoch.
        batch_rows: Examples a batch; or
        batch_tokens: Tokens a batch, at most: as many examples as fit; one that is longer by itself
            gets a batch of its own.

    Returns:
        (B + 1,) int64 boundaries in `order`: batch b is `order[bounds[b]:bounds[b + 1]]`.
    """
    if (batch_rows is None) == (batch_tokens is None):
        raise RecipeError(
            "train",
            got=f"batch_rows {batch_rows} and batch_tokens {batch_tokens}",
            expected="one of the two",
        )
    if batch_rows is not None:
        starts = np.arange(0, len(order), batch_rows, dtype=np.int64)
        return np.append(starts, len(order))
    until = np.concatenate([[0], np.cumsum(lengths[order], dtype=np.int64)])
    bounds = [0]
    while bounds[-1] < len(order):
        fits = int(np.searchsorted(until, until[bounds[-1]] + batch_tokens, side="right")) - 1
        bounds.append(max(fits, bounds[-1] + 1))
    return np.asarray(bounds, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """An epoch cut into optimizer steps.

    Attributes:
        order: The examples, in the order they are trained on.
        bounds: (S + 1,) where each step begins in `order`, and the end.
    """

    order: np.ndarray
    bounds: np.ndarray

    @property
    def num_steps(self) -> int:
        """Steps of the epoch."""
        return len(self.bounds) - 1

    def examples(self, number: int) -> np.ndarray:
        """The examples of a step."""
        return self.order[self.bounds[number] : self.bounds[number + 1]]


@dataclass
class Schedule:
    """The examples of every optimizer step of a run.

    A step is `accumulate` batches, each of so many rows or tokens; how its examples are laid out in
    forward passes is the planner's choice. A step never mixes two epochs; the last one of an epoch
    may be smaller. Nothing here changes as the run goes on: what is kept is only the plan of the
    epoch asked for last.

    Attributes:
        lengths: Tokens of each example.
        rows_per_file: Rows of each file; a row is one example, or several phrasings of it.
        weights: Of each file.
        seed: Of the run.
        batch_rows: Examples of a batch; or
        batch_tokens: its tokens, at most.
        accumulate: Batches of a step.
        epochs: How often the data is seen; 0.5 is the first half of the steps of the first epoch;
            or
        steps: How many steps, over as many epochs as that takes.
        replay_rows: Rows that follow those of the files, to be replayed among them.
        replay_share: Of the rows of every step that are replayed.
        phrasings: Where the examples of each row begin, (all rows + 1,); None where each is one.
    """

    lengths: np.ndarray
    rows_per_file: Sequence[int]
    weights: Sequence[float]
    seed: int = 0
    batch_rows: int | None = None
    batch_tokens: int | None = None
    accumulate: int = 1
    epochs: float | None = None
    steps: int | None = None
    replay_rows: int = 0
    replay_share: float = 0.0
    phrasings: np.ndarray | None = None
    _kept: tuple[int, EpochPlan] | None = field(default=None, init=False, repr=False)
    _sizes: dict[int, int] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            got = f"epochs {self.epochs} and steps {self.steps}"
            raise RecipeError("train", got=got, expected="one of the two")
        if self.plan(0).num_steps == 0:
            got = "no row in an epoch: the weights are too small for so few rows"
            raise RecipeError("data.train", got=got, expected="at least one row")

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the run."""
        if self.steps is not None:
            return self.steps
        whole = int(self.epochs)
        part = self.epochs - whole
        steps = sum(self.steps_in(epoch) for epoch in range(whole))
        return steps + (max(1, round(part * self.steps_in(whole))) if part > 0 else 0)

    def steps_in(self, epoch: int) -> int:
        """Optimizer steps of a whole epoch."""
        if epoch not in self._sizes:
            self._sizes[epoch] = self.plan(epoch).num_steps
        return self._sizes[epoch]

    def epoch_of(self, step: int) -> int:
        """The epoch, from 0, that a step is part of."""
        return self.locate(step)[0]

    def locate(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and the step's number in that epoch, both from 0."""
        if step < 0:
            raise IndexError(f"step {step}")
        if self.batch_rows is not None:
            # Every epoch has as many rows, and so as many steps.
            return divmod(step, self.steps_in(0))
        epoch, rest = 0, step
        while rest >= self.steps_in(epoch):
            rest -= self.steps_in(epoch)
            epoch += 1
        return epoch, rest

    def examples(self, step: int) -> np.ndarray:
        """The examples of a step, in the order of the epoch."""
        epoch, inside = self.locate(step)
        return self.plan(epoch).examples(inside)

    def plan(self, epoch: int) -> EpochPlan:
        """All steps of an epoch; the plan of the epoch asked for last is kept."""
        kept = self._kept
        if kept is not None and kept[0] == epoch:
            return kept[1]
        order = self._order(epoch)
        batches = plan_batches(self.lengths, order, self.batch_rows, self.batch_tokens)
        plan = EpochPlan(order, np.append(batches[: -1 : self.accumulate], batches[-1]))
        # One assignment, so that the thread that prefetches never sees half of it.
        self._kept = (epoch, plan)
        return plan

    def rows_of(self, examples: np.ndarray) -> np.ndarray:
        """The rows that examples are phrasings of; the examples themselves where each is a row."""
        if self.phrasings is None:
            return examples
        return np.searchsorted(self.phrasings, examples, side="right") - 1

    def _order(self, epoch: int) -> np.ndarray:
        order = epoch_order(self.rows_per_file, self.weights, self.seed, epoch)
        if self.replay_share and len(order):
            order = with_replay(order, self.replay_rows, self.replay_share, self.seed, epoch)
            order = np.where(order < 0, sum(self.rows_per_file) - 1 - order, order)
        return order if self.phrasings is None else phrased(order, self.phrasings, self.seed, epoch)
