"""What the model thought of every answer before it was trained, for methods that compare with that.

Computed once, before step 1, and kept on the disk under a name made of all that decides it; so a
resumed run, or another one over the same rows, reads it back.
"""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from tunesmith.api.beforehand import Asked, asked_about, passes, path_of
from tunesmith.api.learner import Learner
from tunesmith.api.rows import Rows
from tunesmith.data.example import Batch
from tunesmith.data.loader import Loader
from tunesmith.export.artefact import fingerprints
from tunesmith.methods import base as methods
from tunesmith.models.base import BaseSource
from tunesmith.models.resting import resting
from tunesmith.recipe import Recipe
from tunesmith.runs.durable import write_durably
from tunesmith.runs.events import Event, Phase

REFERENCE = "reference"
"""In a method's NEEDS, and the name of the numbers that its batches bring."""
REHEARSED = 4
"""Passes that stand for all in a plan."""


def add_reference(
    recipe: Recipe,
    base: BaseSource,
    rows: Rows,
    learner: Learner,
    loader: Loader,
    notice: Callable[[Event], None],
) -> None:
    """Give the examples of a method that NEEDS "reference" their log-probabilities.

    Each sequence gets one, float32: of its trained tokens, under the base; or where an adapter is
    trained further, under that adapter as it was. Must be called before anything is trained or
    restored.
    """
    if REFERENCE not in methods.load(recipe.method.name).NEEDS:
        return
    for asked in asked_about(rows, loader):
        path, counts = _path(recipe, base, learner, asked), _counts(asked)
        if not _kept(path, counts):
            notice(Phase("asking the model, before it is trained, how likely each answer is"))
            path.parent.mkdir(parents=True, exist_ok=True)
            batches = passes(rows, asked, recipe.data.packing)
            write_durably(path, _log_probs(learner, batches).tobytes())
        values = np.split(np.fromfile(path, dtype=np.float32), np.cumsum(counts)[:-1])
        asked.add(REFERENCE, values.__getitem__)


def rehearse_reference(
    recipe: Recipe, base: BaseSource, rows: Rows, learner: Learner, loader: Loader
) -> float:
    """Seconds that `add_reference` will take, from a part of it that is really done.

    The examples get zeros in place of log-probabilities, with which passes take as long. What is
    kept on the disk takes no time.
    """
    seconds = 0.0
    if REFERENCE not in methods.load(recipe.method.name).NEEDS:
        return seconds
    for asked in asked_about(rows, loader):
        asked.prepared.add_numbers(REFERENCE, partial(_zeros, asked.prepared.num_sequences))
        if _kept(_path(recipe, base, learner, asked), _counts(asked)):
            continue
        part = list(islice(passes(rows, asked, recipe.data.packing), REHEARSED + 1))
        _log_probs(learner, part[:1])  # The first one warms caches up.
        timed = part[1:] or part
        start = perf_counter()
        _log_probs(learner, timed)
        per_token = (perf_counter() - start) / sum(batch.num_tokens for batch in timed)
        seconds += per_token * _num_computed(asked, part)
    return seconds


def _num_computed(asked: Asked, part: list[Batch]) -> float:
    """Tokens of all passes over these examples, going by what a part of them shares."""
    units = sum(len(batch.units) for batch in part)
    share = sum(batch.num_tokens for batch in part) / asked.lengths[:units].sum()
    return float(share * asked.lengths.sum())


def _zeros(counts: np.ndarray, index: int) -> np.ndarray:
    """A number for each sequence of an example."""
    return np.zeros(counts[index], np.float32)


def _counts(asked: Asked) -> np.ndarray:
    """(n,) sequences of each example that is asked about."""
    return asked.prepared.num_sequences[asked.wanted]


def _path(recipe: Recipe, base: BaseSource, learner: Learner, asked: Asked) -> Path:
    """Where the numbers lie, or will."""
    what = {
        "base": base.sha256,
        "start": fingerprints(learner.attached.trained) if learner.attached.continued else {},
        "model": recipe.model.model_dump(mode="json", exclude={"base", "revision"}),
        "adapter": recipe.adapter.model_dump(mode="json"),
    }
    return path_of(REFERENCE, recipe, asked, what)


def _kept(path: Path, counts: np.ndarray) -> bool:
    return path.is_file() and path.stat().st_size == 4 * counts.sum()


@torch.no_grad()
def _log_probs(learner: Learner, batches: Iterable[Batch]) -> np.ndarray:
    """(S,) float32 of all sequences in order."""
    policy, found = learner.policy, []
    with resting(policy.model), learner.as_before():
        for batch in batches:
            told = policy.sequence_log_probs(batch.to(policy.device))
            found.append(told.float().cpu().numpy())
    return np.concatenate(found)
