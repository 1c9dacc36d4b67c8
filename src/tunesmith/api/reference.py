"""What the model thought of every answer before it was trained, for methods that compare with that.

Computed once, before step 1, and kept on the disk under a name made of all that decides it; so a
resumed run, or another one over the same rows, reads it back.
"""

import json
from collections.abc import Callable
from contextlib import nullcontext
from hashlib import sha256
from itertools import pairwise

import numpy as np
import torch

from tunesmith.api.build import Learner, Rows, pad_id
from tunesmith.api.resolve import device
from tunesmith.config.home import home
from tunesmith.data.collate import collate
from tunesmith.data.order import plan_batches
from tunesmith.data.prepared import Prepared
from tunesmith.export.artefact import fingerprints
from tunesmith.methods import base as methods
from tunesmith.models.base import BaseSource
from tunesmith.models.resting import resting
from tunesmith.recipe import Recipe
from tunesmith.runs.durable import write_durably
from tunesmith.runs.events import Event, Phase

REFERENCE = "reference"
"""In a method's NEEDS, and the name of the numbers that its batches bring."""
MAX_TOKENS = 1024
"""Tokens of one forward pass."""


def add_reference(
    recipe: Recipe,
    base: BaseSource,
    rows: Rows,
    learner: Learner,
    notice: Callable[[Event], None],
) -> None:
    """Give the examples of a method that NEEDS "reference" their log-probabilities.

    Each sequence gets one, float32: of its trained tokens, under the base; or where an adapter is
    trained further, under that adapter as it was. Must be called before anything is trained or
    restored.
    """
    if REFERENCE not in methods.load(recipe.method.name).NEEDS:
        return
    for prepared in filter(None, (rows.train, rows.heldout)):
        path = home() / REFERENCE / f"{_key(recipe, base, learner, prepared)}.f32"
        counts = np.array([max(len(prepared[i].parts), 1) for i in range(len(prepared))])
        if not path.is_file() or path.stat().st_size != 4 * counts.sum():
            notice(Phase("asking the model, before it is trained, how likely each answer is"))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, _log_probs(rows, learner, prepared, recipe.data.packing).tobytes())
        values = np.split(np.fromfile(path, dtype=np.float32), np.cumsum(counts)[:-1])
        prepared.add_numbers(REFERENCE, values.__getitem__)


@torch.no_grad()
def _log_probs(rows: Rows, learner: Learner, prepared: Prepared, packed: bool) -> np.ndarray:
    """(S,) float32 of all sequences in order."""
    attached, policy = learner.attached, learner.policy
    plain = attached.disabled if attached.disabled and not attached.continued else nullcontext
    bounds = plan_batches(prepared.lengths, np.arange(len(prepared)), None, MAX_TOKENS)
    found = []
    with resting(policy.model), plain():
        for start, stop in pairwise(bounds):
            examples = [prepared[i] for i in range(start, stop)]
            batch = collate(examples, packed, pad_id(rows.renderer)).to(policy.device)
            found.append(policy.sequence_log_probs(batch).float().cpu().numpy())
    return np.concatenate(found)


def _key(recipe: Recipe, base: BaseSource, learner: Learner, prepared: Prepared) -> str:
    """SHA-256 over all that decides the numbers, their last bits included."""
    start = fingerprints(learner.attached.trained) if learner.attached.continued else {}
    parts = {
        "base": base.sha256,
        "examples": prepared.key,
        "start": start,
        "model": recipe.model.model_dump(mode="json", exclude={"base", "revision"}),
        "adapter": recipe.adapter.model_dump(mode="json"),
        "packing": recipe.data.packing,
        "train": [recipe.train.precision, recipe.train.kernels],
        "machine": [str(device()), torch.get_num_threads(), torch.__version__],
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
