"""What must hold of a run by itself: two runs that are wrong alike are equal to the last bit."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tunesmith.api.build import build_rate
from tunesmith.api.proof.planned import Planned
from tunesmith.api.proof.trace import Trace
from tunesmith.data.order import Schedule
from tunesmith.engine.loop import step_seed
from tunesmith.recipe import Recipe

MOST_EPOCHS = 50
"""Epochs whose order is looked at."""
FEW_ROWS = 12
"""Rows below which two epochs may come in one order by chance; 12 have 479,001,600 orders."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence of the certificate.

    Attributes:
        says: What is claimed.
        ok: Whether it holds.
        figure: How much was looked at; or, where it does not hold, what was found instead.
    """

    says: str
    ok: bool
    figure: str


def laws(recipe: Recipe, planned: Planned, trace: Trace) -> list[Claim]:
    """The claims about one run, and about the plan of the whole of it."""
    num_steps = planned.num_steps
    steps = f"{len(trace.steps)} steps"
    epochs = f"{_num_epochs(planned.schedule)} epochs"
    as_planned = _claim(
        "each step had the rows that the plan has for it", _rows(planned, trace), steps
    )
    # Rows that the guard leaves out are no longer those of the plan, and no claim is made then.
    return [
        *([] if trace.counters["guard"]["left_out"] else [as_planned]),
        _claim(
            "in the plan, an epoch has each row as often as it should",
            _counts(planned.schedule),
            f"{epochs} of {sum(planned.schedule.rows_per_file):,} rows",
        ),
        _claim(
            "in the plan, each epoch comes in an order of its own",
            _orders(planned.schedule),
            epochs,
        ),
        _claim("each step drew its random numbers anew", _seeds(recipe, trace), steps),
        _claim(
            "each step had the learning rate of the schedule",
            _rates(recipe, num_steps, trace),
            f"{steps} of {num_steps:,}",
        ),
    ]


def _claim(says: str, problems: Iterator[str], figure: str) -> Claim:
    problem = next(problems, None)
    return Claim(says, problem is None, figure if problem is None else problem)


def _rows(planned: Planned, trace: Trace) -> Iterator[str]:
    if not planned.digests:
        yield from _asked(planned, trace)
    for step, expected in zip(trace.steps, planned.digests, strict=False):
        if step["digest"] != expected:
            number = step["step"]
            told = [planned.told(digest, number) for digest in (step["digest"], expected)]
            yield f"step {number}: {told[0]}, where the plan has {told[1]}"


def _asked(planned: Planned, trace: Trace) -> Iterator[str]:
    """Of drawn answers: each rollout begins with the rows of the plan; others may follow."""
    for step, found in trace.asked.items():
        expected = planned.rows[step - 1] if step <= len(planned.rows) else ()
        if found[: len(expected)] != expected:
            rows = [", ".join(f"{Path(s).name}:{row}" for s, row in r) for r in (found, expected)]
            yield f"step {step}: prompts of rows {rows[0]}, where the plan has {rows[1]}"


def _num_epochs(schedule: Schedule) -> int:
    """Epochs to look at: those of the run, and at least two, since the order is a function."""
    return min(max(schedule.epoch_of(schedule.num_steps - 1) + 1, 2), MOST_EPOCHS)


def _counts(schedule: Schedule) -> Iterator[str]:
    """Of each row: the whole part of its file's weight, or one more where that has a fraction."""
    weights = np.repeat(np.asarray(schedule.weights), schedule.rows_per_file)
    for epoch in range(_num_epochs(schedule)):
        rows = schedule.rows_of(schedule.plan(epoch).order)
        found = np.bincount(rows, minlength=len(weights))[: len(weights)]  # Replayed rows follow.
        wrong = np.flatnonzero((found < np.floor(weights)) | (found > np.ceil(weights)))
        if len(wrong):
            row = int(wrong[0])
            yield (
                f"epoch {epoch + 1}: example {row + 1} comes {found[row]} times, its file has "
                f"weight {weights[row]:g}"
            )


def _orders(schedule: Schedule) -> Iterator[str]:
    seen: dict[bytes, int] = {}
    for epoch in range(_num_epochs(schedule)):
        order = schedule.plan(epoch).order
        if len(order) < FEW_ROWS:
            return
        before = seen.setdefault(order.tobytes(), epoch)
        if before != epoch:
            yield f"epoch {epoch + 1} comes in the order of epoch {before + 1}"


def _seeds(recipe: Recipe, trace: Trace) -> Iterator[str]:
    seen: dict[int, int] = {}
    for step in trace.steps:
        number, seed = step["step"], step["seed"]
        before = seen.setdefault(seed, number)
        if before != number:
            yield f"step {number}: seed {seed}, which step {before} had"
        expected = step_seed(recipe.train.seed, number - 1)
        if seed != expected:
            yield f"step {number}: seed {seed}, by its definition {expected}"


def _rates(recipe: Recipe, num_steps: int, trace: Trace) -> Iterator[str]:
    rate = build_rate(recipe, num_steps)
    for step in trace.steps:
        expected = rate(step["step"] - 1)
        if step["learning_rate"] != expected:
            yield (
                f"step {step['step']}: learning rate {step['learning_rate']!r}, by the schedule "
                f"{expected!r}"
            )
