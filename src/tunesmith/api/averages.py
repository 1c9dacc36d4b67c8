"""Averages of weights, made at the end of a run and measured beside its best checkpoint.

The mean of several checkpoints is a uniform soup (Model soups, arXiv:2203.05482, section 2, here of
one run: of its last checkpoints, or of its best ones). Of a LoRA it averages A and B each by
itself, which is not the mean of their products.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from tunesmith.api.session import Session, last_saved, ranked
from tunesmith.checkpoint.layout import step_folder
from tunesmith.checkpoint.verify import verify
from tunesmith.engine.best import beats, within
from tunesmith.engine.measured import overwrite, put_in_place
from tunesmith.engine.saving import read_parameters
from tunesmith.errors import CheckpointError
from tunesmith.runs.events import Evaluated, Warned

EMA = "ema"


@dataclass(frozen=True)
class Average:
    """An average of weights.

    Attributes:
        name: `ema`, `last 3` or `best 3`.
        steps: The checkpoints that it is the mean of; empty for a moving average.
        put: Overwrites the trained parameters with it.
    """

    name: str
    steps: tuple[int, ...]
    put: Callable[[], None]


def measure_averages(session: Session) -> list[Average]:
    """Measure every average that the recipe asks for; the parameters stay as they are."""
    evaluator, last = session.evaluator, session.parts.loader.num_steps
    found = []
    for average in _averages(session):
        if not evaluator.decides:
            text = f"{average.name} is not exported: nothing is measured by which it could be best"
            session.watch.notice(Warned(text))
            continue
        with put_in_place(session.learner.attached.trained, average.put):
            evaluator.measure_average(average.name, last)
        found.append(average)
    return found


def best_average(
    session: Session, averages: list[Average], best: Evaluated | None
) -> Average | None:
    """The average to export in the place of the best checkpoint; None where none is better."""
    tasks, budget = session.recipe.evaluate.tasks, session.recipe.evaluate.forgetting_budget
    task, chosen = tasks[0].name if tasks else None, None
    for average in averages:
        found = session.evaluator.averages[average.name]
        if within(found, budget) and (best is None or beats(found, best, task)):
            best, chosen = found, average
    return chosen


def _averages(session: Session) -> Iterator[Average]:
    parts, asked = session.parts, session.recipe.checkpoint.average
    if parts.ema is not None:
        yield Average(EMA, (), parts.ema.put)
    for kind, number in (asked or {}).items():
        steps = last_saved(session.recipe, parts.loader.num_steps)
        if kind == "best":
            steps = ranked(session.evaluator.history.values(), session.recipe)[:number]
        yield from _soup(session, f"{kind} {number}", steps)


def _soup(session: Session, name: str, steps: list[int]) -> Iterator[Average]:
    """The mean of these checkpoints, of those that are whole; none of fewer than two."""
    weights = {}
    for step in sorted(steps):
        try:
            folder = verify(step_folder(session.folder.checkpoints, step)).folder
            weights[step] = read_parameters(folder)
        except CheckpointError as error:
            text = f"the average of the {name} checkpoints is made without step {step}: {error}"
            session.watch.notice(Warned(text))
    if len(weights) < 2:
        text = f"the average of the {name} checkpoints is not made: there are {len(weights)}"
        session.watch.notice(Warned(text))
        return
    trained = session.learner.attached.trained
    yield Average(name, tuple(weights), partial(overwrite, trained, mean([*weights.values()])))


def mean(weights: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several sets of weights, name by name; sums are taken in fp64."""
    return {
        name: torch.stack([each[name] for each in weights]).double().mean(0).to(first.dtype)
        for name, first in weights[0].items()
    }
