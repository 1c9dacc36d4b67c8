"""Whether a difference between before and after is more than chance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tunesmith.errors import DataError, RunError

CHUNK_NUMBERS = 2**21
"""Row numbers drawn at a time: 16 MB, however many rows and resamples there are."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where it may well lie.

    Attributes:
        mean: Of the rows that there are.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    mean: float
    low: float
    high: float


def paired_bootstrap(
    before: ArrayLike,
    after: ArrayLike,
    *,
    counts: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """The mean of `after - before` over rows, with a percentile bootstrap interval.

    Rows are drawn with replacement, each with both of its values, so what a row is hard or easy by
    drops out (Efron & Tibshirani 1993, chapter 13). With about 20 rows or fewer the interval is
    somewhat too narrow, as percentile intervals are.

    Args:
        before: (n,) one value a row; with `counts`, its sum over that many tokens.
        after: (n,) of the same rows in the same order.
        counts: (n,) tokens of each row; the mean is then per token, the sum of the differences
            over the sum of the counts. None weighs every row alike.
        seed: The same seed gives the same interval.
        resamples: How many times n rows are drawn.
        level: Share of such intervals that hold the true value.

    Returns:
        The interval; of one row, or where all rows differ alike, it is a point.

    Raises:
        DataError: There are no rows.
        RunError: A value is not finite.
        ValueError: The arrays are not of one length.
    """
    differences, weights = _paired(before, after, counts)
    num_rows = len(differences)
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK_NUMBERS // num_rows)
    means = np.empty(resamples)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(num_rows, size=(size, num_rows))
        totals = weights[drawn].sum(axis=1)
        # Rows without a token add nothing; a resample of such rows alone has no difference.
        sums = differences[drawn].sum(axis=1)
        means[start : start + size] = sums / np.where(totals > 0, totals, 1)
    outside = (1 - level) / 2
    low, high = np.quantile(means, [outside, 1 - outside])
    return Interval(float(differences.sum() / weights.sum()), float(low), float(high))


def _paired(
    before: ArrayLike, after: ArrayLike, counts: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differences and weights of the rows, both (n,), checked."""
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    weights = np.ones(old.shape) if counts is None else np.asarray(counts, dtype=np.float64)
    if old.ndim != 1 or not old.shape == new.shape == weights.shape:
        raise ValueError(f"paired arrays of shapes {old.shape}, {new.shape}, {weights.shape}")
    if not weights.sum() > 0:
        raise DataError("paired comparison", got="no rows", expected="at least one, with a token")
    bad = np.flatnonzero(~np.isfinite(new - old))
    if bad.size:
        raise RunError(
            f"paired comparison, row {bad[0] + 1}",
            got=f"{old[bad[0]]} before and {new[bad[0]]} after",
            expected="finite numbers",
        )
    return new - old, weights
