"""From numbers at the trained tokens of a batch to sums for each of its rows."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.data.example import Batch


def row_of_targets(batch: Batch) -> NDArray[np.int64]:
    """Which row of `batch` each trained token belongs to.

    Returns:
        (N,) numbers counted from 0, in the order of `batch.targets`.
    """
    return np.repeat(np.arange(len(batch.rows)), batch.targets_per_row)


def sum_by_row(batch: Batch, values_N: Tensor) -> NDArray[np.float64]:
    """Add up the values of each row, (R,) float64.

    Args:
        batch: R rows with N trained tokens in all.
        values_N: (N,) one value a trained token, in order.
    """
    values = values_N.double().cpu().numpy()
    return np.bincount(row_of_targets(batch), weights=values, minlength=len(batch.rows))


def targets_by_row(batch: Batch) -> NDArray[np.int64]:
    """How many trained tokens each row has, (R,)."""
    return np.array(batch.targets_per_row, dtype=np.int64)
