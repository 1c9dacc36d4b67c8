"""What the evaluations of a run will take, from a part of one that is really made."""

from collections.abc import Callable
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TypeVar

import torch

from tunesmith.api.judges import bind_tasks
from tunesmith.api.learner import Learner
from tunesmith.api.measures import Answers, build_heldout, build_probes, build_tasks
from tunesmith.api.rows import Rows
from tunesmith.evaluate.task import TaskRows, run_task
from tunesmith.recipe import Recipe

T = TypeVar("T")

HELDOUT_BATCHES = 4
"""Held-out batches that stand for all."""
LONG = 1.0
"""Seconds from which on a first batch stands for all: warming caches up is little of it."""


@torch.no_grad()
def rehearse(recipe: Recipe, rows: Rows, learner: Learner, num_steps: int) -> float:
    """Seconds that all evaluations of the run will take, the questions to the base included.

    Held-out loss and tasks are timed on their first batches, probes as a whole. Answers of the
    base stand for those of the trained model, which often stop sooner: so it is rather too much.
    """
    every = recipe.evaluate.every
    times = 1 + (1 if every is None else ceil(num_steps / every))
    answers = Answers(learner, rows.renderer, recipe.evaluate.batch_rows)
    learner.policy.model.eval()
    each = _heldout(recipe, rows, learner)
    tasks = bind_tasks(build_tasks(recipe, rows.renderer), recipe, learner, rows.renderer)
    each += sum(_task(task, answers) for task in tasks)
    with TemporaryDirectory() as folder:
        asking, probes = _timed(lambda: build_probes(recipe, learner, answers, Path(folder)))
    each += sum(_timed(probe.measure)[0] for probe in probes)
    return asking + times * each


def _heldout(recipe: Recipe, rows: Rows, learner: Learner) -> float:
    heldout = build_heldout(recipe, rows, learner)
    batches = heldout.batches() if heldout else []
    part = batches[:HELDOUT_BATCHES]
    if not part:
        return 0.0
    seconds, _ = _timed(lambda: heldout.result(part[:1]))
    if seconds > LONG:
        part = part[:1]
    else:
        seconds, _ = _timed(lambda: heldout.result(part))
    return seconds * sum(b.num_tokens for b in batches) / sum(b.num_tokens for b in part)


def _task(task: TaskRows, answers: Answers) -> float:
    part = task.first(answers.batch_rows)
    seconds, _ = _timed(lambda: run_task(part, answers.texts))
    return seconds * len(task) / len(part)


def _timed(action: Callable[[], T]) -> tuple[float, T]:
    start = perf_counter()
    done = action()
    return perf_counter() - start, done
