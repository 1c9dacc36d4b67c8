"""What a model is asked of examples before step 1, and where the answers are kept.

Asked are the examples that the run is planned to train on, and those held out: a few steps over
many rows do not wait for all of them.

A file is named by all that decides what is in it, so that a resumed run, or another one over the
same rows, reads it back.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunesmith.api.resolve import device
from tunesmith.api.rows import Rows, pad_id
from tunesmith.config.home import home
from tunesmith.data.collate import collate
from tunesmith.data.example import Batch
from tunesmith.data.loader import Loader
from tunesmith.data.order import plan_batches
from tunesmith.data.prepared import Prepared
from tunesmith.recipe import Recipe

MAX_TOKENS = 1024
"""Tokens of one forward pass."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Some examples of a file.

    Attributes:
        prepared: All of them.
        wanted: (n,) those that are asked about, rising.
    """

    prepared: Prepared
    wanted: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """(n,) tokens of each."""
        return self.prepared.lengths[self.wanted]

    def add(self, name: str, give: Callable[[int], np.ndarray]) -> None:
        """Let these examples come with further numbers; `give` counts them alone, from 0."""
        places = np.full(len(self.prepared), -1, dtype=np.int64)
        places[self.wanted] = np.arange(len(self.wanted))

        def given(index: int) -> np.ndarray:
            if places[index] < 0:
                raise LookupError(f"nobody was asked about example {index}: no step has it")
            return give(int(places[index]))

        self.prepared.add_numbers(name, given)


def asked_about(rows: Rows, loader: Loader) -> list[Asked]:
    """The examples that are trained on and those that are held out.

    Args:
        rows: Of the run.
        loader: Knows which of the training rows a step has.
    """
    found = [Asked(rows.train, loader.planned_examples())]
    if rows.heldout is not None:
        found.append(Asked(rows.heldout, np.arange(len(rows.heldout))))
    return found


def passes(rows: Rows, asked: Asked, packed: bool) -> Iterator[Batch]:
    """These examples in order, in batches."""
    bounds = plan_batches(asked.prepared.lengths, asked.wanted, None, MAX_TOKENS)
    for start, stop in pairwise(bounds):
        examples = [asked.prepared[i] for i in asked.wanted[start:stop]]
        yield collate(examples, packed, pad_id(rows.renderer))


def path_of(kind: str, recipe: Recipe, asked: Asked, what: Mapping[str, Any]) -> Path:
    """Where the answers lie, or will: float32 numbers.

    Args:
        kind: Names the folder.
        recipe: Of the run.
        asked: The examples.
        what: Which model is asked for what, in JSON.
    """
    parts = {
        "examples": asked.prepared.key,
        "wanted": sha256(asked.wanted.astype("<i8").tobytes()).hexdigest(),
        "packing": recipe.data.packing,
        "train": [recipe.train.precision, recipe.train.kernels],
        "machine": [str(device()), torch.get_num_threads(), torch.__version__],
        **what,
    }
    key = sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return home() / kind / f"{key}.f32"
