"""What the planner made of a run, in figures: the cost of its passes, and what they waste."""

from dataclasses import dataclass

import numpy as np

SURVEYED = 512
"""Steps that stand for a longer run: planning them takes a fraction of a second."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The forward passes of some steps, taken evenly from the whole run.

    Attributes:
        examples: Of each pass.
        step: (P,) the step of each pass, from 0.
        cost: (P,) of each pass, in tokens.
        tokens: (P,) that are computed, padding included.
        squares: (P,) squared lengths of the examples, padding included, added up.
        real_tokens: (P,) without padding.
    """

    examples: list[np.ndarray]
    step: np.ndarray
    cost: np.ndarray
    tokens: np.ndarray
    squares: np.ndarray
    real_tokens: np.ndarray

    @property
    def num_steps(self) -> int:
        """How many steps were taken."""
        return len(np.unique(self.step))

    @property
    def padding(self) -> float:
        """Share of the computed tokens that are padding."""
        return float(1 - self.real_tokens.sum() / self.tokens.sum())

    @property
    def imbalance(self) -> float:
        """What the costliest pass of a step takes over the mean of its passes, as a share.

        So much of a step would processes wait that share its passes; the mean over steps.
        """
        starts = np.flatnonzero(np.diff(self.step, prepend=-1))
        passes = np.diff(np.append(starts, len(self.step)))
        mean = np.add.reduceat(self.cost, starts) / passes
        return float((np.maximum.reduceat(self.cost, starts) / mean - 1).mean())
