"""What a model is asked of all examples before step 1, and where the answers are kept.

A file is named by all that decides what is in it, so that a resumed run, or another one over the
same rows, reads it back.
"""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunesmith.api.build import Rows, pad_id
from tunesmith.api.resolve import device
from tunesmith.config.home import home
from tunesmith.data.collate import collate
from tunesmith.data.example import Batch
from tunesmith.data.order import plan_batches
from tunesmith.data.prepared import Prepared
from tunesmith.recipe import Recipe

MAX_TOKENS = 1024
"""Tokens of one forward pass."""


def passes(rows: Rows, prepared: Prepared, packed: bool) -> Iterator[Batch]:
    """All examples in order, in batches."""
    bounds = plan_batches(prepared.lengths, np.arange(len(prepared)), None, MAX_TOKENS)
    for start, stop in pairwise(bounds):
        examples = [prepared[i] for i in range(start, stop)]
        yield collate(examples, packed, pad_id(rows.renderer))


def path_of(kind: str, recipe: Recipe, prepared: Prepared, asked: Mapping[str, Any]) -> Path:
    """Where the answers lie, or will: float32 numbers.

    Args:
        kind: Names the folder.
        recipe: Of the run.
        prepared: The examples.
        asked: Which model is asked for what, in JSON.
    """
    parts = {
        "examples": prepared.key,
        "packing": recipe.data.packing,
        "train": [recipe.train.precision, recipe.train.kernels],
        "machine": [str(device()), torch.get_num_threads(), torch.__version__],
        **asked,
    }
    key = sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return home() / kind / f"{key}.f32"
