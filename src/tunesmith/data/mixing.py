"""What comes beside the plain order of rows: sizes evened out, replay, one of several phrasings.

All are pure functions of the seed, the epoch and the position, as the order itself is.
"""

from collections.abc import Sequence

import numpy as np

REPLAY, PHRASING = 2**20, 2**21
"""Keys of these random bits beside those of the files, of which there are fewer."""


def bits(count: int, key: tuple[int, ...]) -> np.ndarray:
    """(count,) uint64 that depend on `key` alone: raw PCG64, the same in every release of numpy."""
    return np.random.PCG64(np.random.SeedSequence(key)).random_raw(count)


def shuffled(count: int, key: tuple[int, ...]) -> np.ndarray:
    """A permutation of range(count) that depends on `key` alone."""
    return np.argsort(bits(count, key), kind="stable")


def evened(
    rows: Sequence[int], weights: Sequence[float], temperature: float, cap: int | None
) -> tuple[float, ...]:
    """Weights with which each file comes in the share that its size gives it.

        share of file m  ~  weight_m min(rows_m, cap) ** (1 / temperature)

    Raffel et al. 2020 (arXiv:1910.10683, section 3.5.2: examples-proportional mixing with a limit,
    temperature-scaled). An epoch stays as long as it is by the weights alone.

    Args:
        rows: Of each file.
        weights: Of each file, before.
        temperature: 1 keeps the sizes; towards infinity all files come alike.
        cap: Rows beyond which a file counts as no larger; None for no limit.
    """
    given, sizes = np.asarray(weights, dtype=np.float64), np.asarray(rows, dtype=np.float64)
    capped = sizes if cap is None else np.minimum(sizes, cap)
    rates = given * capped ** (1 / temperature)
    wanted = rates / rates.sum() * (given * sizes).sum()
    return tuple(float(each) for each in wanted / np.maximum(sizes, 1))


def with_replay(order: np.ndarray, rows: int, share: float, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch with replayed rows at even distances, so that every step has its share.

    Args:
        order: (N,) rows to train on.
        rows: How many rows there are to replay. Each is drawn once before any comes again, in an
            order that is new in every epoch.
        share: Of all rows that are to be replayed.
        seed: Of the run.
        epoch: Counted from 0.

    Returns:
        (N / (1 - share),) in which replayed row i is -1 - i.
    """
    most = int(len(order) / (1 - share)) + 2
    # Where the number of replayed rows so far, share times the position, reaches a whole one.
    due = np.floor(np.arange(most + 1) * share + 1e-9)
    replayed = np.diff(due) > 0
    replayed = replayed[: np.flatnonzero(~replayed)[len(order)]]
    cycles = -(-int(replayed.sum()) // rows)
    drawn = [shuffled(rows, (seed, epoch, REPLAY + cycle)) for cycle in range(cycles)]
    mixed = np.empty(len(replayed), dtype=np.int64)
    mixed[~replayed] = order
    mixed[replayed] = -1 - np.concatenate([*drawn, order[:0]])[: replayed.sum()]
    return mixed


def phrased(order: np.ndarray, begins: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """One example for each row of an order, drawn from the phrasings of the row.

    Args:
        order: (N,) rows.
        begins: (rows + 1,) where the examples of each row begin.
        seed: Of the run.
        epoch: Counted from 0.
    """
    choices = (begins[order + 1] - begins[order]).astype(np.uint64)
    drawn = bits(len(order), (seed, epoch, PHRASING)) % choices
    return begins[order] + drawn.astype(np.int64)
