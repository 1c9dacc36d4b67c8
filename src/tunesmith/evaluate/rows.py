"""From numbers at the labelled positions of a batch to sums for each of its rows."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.data.example import IGNORE, Batch


def row_of_labels(batch: Batch) -> NDArray[np.int64]:
    """Which example of `batch` each label belongs to.

    Returns:
        (N,) numbers counted from 0, in the order of the labels that are not IGNORE.
    """
    num_rows = len(batch.lengths)
    if batch.packed:
        row = torch.arange(num_rows).repeat_interleave(torch.tensor(batch.lengths))[None]
    else:
        row = torch.arange(num_rows)[:, None].expand(batch.labels.shape)
    return row[batch.labels.cpu() != IGNORE].numpy()


def sum_by_row(batch: Batch, values_N: Tensor) -> NDArray[np.float64]:
    """Add up the values of each example, (B,) float64.

    Args:
        batch: B examples with N labels in all.
        values_N: (N,) one value a label, in order.
    """
    values = values_N.double().cpu().numpy()
    return np.bincount(row_of_labels(batch), weights=values, minlength=len(batch.lengths))


def labels_by_row(batch: Batch) -> NDArray[np.int64]:
    """How many labels each example has, (B,)."""
    return np.bincount(row_of_labels(batch), minlength=len(batch.lengths))
