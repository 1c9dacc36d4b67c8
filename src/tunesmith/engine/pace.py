"""How long forward passes take: a line through a few that were measured.

    seconds = a + b tokens + c tokens^2

The first term is what a pass costs whatever it holds, the second is all that is done to each token
by itself, the third is attention within each example.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Pace:
    """The line: what a pass, a token and a squared token cost, in seconds; none is negative."""

    per_pass: float
    per_token: float
    per_square: float

    def seconds(self, tokens: np.ndarray, squares: np.ndarray) -> np.ndarray:
        """(P,) of passes with so many tokens, and squared lengths of examples added up."""
        return self.per_pass + self.per_token * tokens + self.per_square * squares


def fit_pace(tokens: Sequence[float], squares: Sequence[float], seconds: Sequence[float]) -> Pace:
    """The line nearest to what was measured, relative errors counted.

    Args:
        tokens: Of each pass, padding included; at least one pass.
        squares: Squared lengths of its examples, added up.
        seconds: What it took.

    Returns:
        A term that would come out negative, or that too few passes tell apart, is left out. The
        tokens alone are always enough for a line through the origin.
    """
    table = np.stack([np.ones(len(tokens)), np.asarray(tokens), np.asarray(squares)], 1)
    table = np.asarray(table, dtype=np.float64) / np.asarray(seconds)[:, None]
    found = np.zeros(3)
    for terms in ([0, 1, 2], [0, 1], [1, 2], [1]):
        part, _, rank, _ = np.linalg.lstsq(_scaled(table[:, terms]), np.ones(len(table)), None)
        if rank == len(terms) and (part >= 0).all():
            found[terms] = part / _scale(table[:, terms])
            break
    return Pace(*(float(value) for value in found))


def _scale(table: np.ndarray) -> np.ndarray:
    return np.abs(table).max(0)


def _scaled(table: np.ndarray) -> np.ndarray:
    """Columns of like size, so that lstsq sees which of them are really dependent."""
    return table / _scale(table)


def spread(cost: np.ndarray, number: int) -> np.ndarray:
    """Indices of passes that stand for all: at even steps through their costs.

    Args:
        cost: (P,) of each pass.
        number: How many, at most P are given.
    """
    number = min(number, len(cost))
    places = (np.arange(number) + 0.5) / number * len(cost)
    return np.argsort(cost, kind="stable")[places.astype(np.int64)]
