"""Examples to a batch: end to end in one sequence, or side by side with padding."""

from collections.abc import Sequence

import numpy as np
import torch

from tunesmith.data.example import IGNORE, Batch, Example


def collate(examples: Sequence[Example], packed: bool, pad_id: int) -> Batch:
    """Lays examples out for one forward pass.

    Args:
        examples: At least one.
        packed: End to end, shape (1, T); otherwise one a line, shape (B, longest).
        pad_id: Fills the end of shorter lines; its labels are IGNORE, its positions 0.

    Returns:
        The batch; see `Batch` for its tensors.

    Raises:
        ValueError: There are no examples.
    """
    if not examples:
        raise ValueError("a batch needs at least one example")
    lengths = tuple(len(example) for example in examples)
    shape = (1, sum(lengths)) if packed else (len(examples), max(lengths))
    ids = np.full(shape, pad_id, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORE, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    at = 0
    for line, example in enumerate(examples):
        place = (0, slice(at, at + len(example))) if packed else (line, slice(0, len(example)))
        ids[place] = example.input_ids
        positions[place] = np.arange(len(example))
        labels[place] = _labels(example)
        mask[place] = 1
        at += len(example)
    return Batch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(labels),
        lengths,
        None if packed else torch.from_numpy(mask),
        tuple((example.source, example.row) for example in examples),
        int((labels != IGNORE).sum()),
    )


def _labels(example: Example) -> np.ndarray:
    """(T,) the next token where it is trained; the last position has none."""
    labels = np.full(len(example), IGNORE, dtype=np.int64)
    labels[:-1] = np.where(example.trained[1:], example.input_ids[1:], IGNORE)
    return labels
