"""The loss of each source, told beside that of all rows: what one average would hide.

Forgetting has no such figures: it is measured on prompts that belong to no source, and every source
moves the one model that answers them. A score is of a task, and a task has rows of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from tunesmith.api.replay import NAME as REPLAY
from tunesmith.data.example import Batch
from tunesmith.data.prepared import Prepared
from tunesmith.data.section import DataSection, names_of
from tunesmith.evaluate.heldout import HeldoutResult
from tunesmith.methods.base import LossSum

Loss = Callable[[Batch], LossSum]


def names_by_path(section: DataSection) -> dict[str, str]:
    """What figures of each training file are called; one that is listed twice has its first name.

    Rows that are replayed come last, under the path of whatever file they are in.
    """
    named = zip(section.train_sources, names_of(section.train_sources), strict=True)
    found: dict[str, str] = {}
    for source, name in named:
        found.setdefault(source.path, name)
    return found | ({"": REPLAY} if section.replay else {})


def telling(loss: Loss, names: Mapping[str, str]) -> Loss:
    """The same loss, with that of each source as a figure where there are several.

    Args:
        loss: Of a method; one that does not say what `each` target or example lost tells nothing.
        names: By path; "" stands for every other path.
    """
    if len(names) < 2:
        return loss
    numbers = {path: number for number, path in enumerate(names)}

    def told(batch: Batch) -> LossSum:
        found = loss(batch)
        if found.each is None:
            return found
        place = _sources(batch, numbers, len(found.each))
        counts = np.bincount(place, minlength=len(names))
        sums = found.each.new_zeros(len(names))
        sums = sums.index_add(0, torch.from_numpy(place).to(sums.device), found.each)
        figures = {
            f"loss/{name}": (sums[number], int(counts[number]))
            for number, name in enumerate(names.values())
        }
        return replace(found, figures={**found.figures, **figures})

    return told


def of_heldout(heldout: Prepared, result: HeldoutResult) -> dict[str, float]:
    """The held-out loss of each file, where there are several and each row is measured."""
    if len(heldout.files) < 2 or len(result.per_row_sum) != len(heldout):
        return {}
    names = names_of(heldout.files)
    sums = np.bincount(heldout.sources, result.per_row_sum, len(names))
    counts = np.bincount(heldout.sources, result.per_row_count, len(names))
    return {
        f"loss/{name}": float(s / c) for name, s, c in zip(names, sums, counts, strict=True) if c
    }


def _sources(batch: Batch, numbers: Mapping[str, int], count: int) -> np.ndarray:
    """(count,) number of the source of each target of a batch, or of each example."""
    other = numbers.get("", 0)
    of_rows = np.array([numbers.get(path, other) for path, _ in batch.rows], dtype=np.int64)
    if count == batch.num_trained:
        return np.repeat(of_rows, batch.targets_per_row)
    # The sequences of an example are of one row of its file.
    firsts = np.cumsum([0, *batch.units[:-1]])
    return of_rows[firsts]
