"""The learning rate as a pure function of the step: nothing to save, nothing to drift."""

from dataclasses import dataclass
from math import ceil, cos, pi, sqrt

WSD_DECAY = 0.2
"""Share of the steps over which wsd decays; MiniCPM (arXiv:2404.06395) finds a tenth enough."""


@dataclass(frozen=True, slots=True)
class LearningRate:
    """Warmup, then one of the shapes.

    Args:
        peak: Highest rate.
        shape: constant, linear, cosine, wsd (warmup, stable, decay) or inverse_sqrt (Attention Is
            All You Need, arXiv:1706.03762, eq. 3).
        warmup: Below 1 a share of the steps (rounded up), else a number of steps.
        num_steps: Steps of the whole run.
        floor: Share of the peak that the shape falls to in the place of 0.
    """

    peak: float
    shape: str
    warmup: float
    num_steps: int
    floor: float = 0.0

    @property
    def warmup_steps(self) -> int:
        """Steps over which the rate rises; never all of them unless asked for as a number."""
        if self.warmup >= 1:
            return round(self.warmup)
        return ceil(self.warmup * self.num_steps)

    def __call__(self, step: int) -> float:
        """Rate of `step`, counted from 0.

        The first warmup step already moves (rate peak / warmup_steps), the last warmup step has the
        peak, and the rate would reach its floor one step after the last, so that none is wasted.
        """
        warmup = self.warmup_steps
        if step < warmup:
            return self.peak * (step + 1) / warmup
        rest = max(self.num_steps - warmup, 1)
        if self.shape == "inverse_sqrt":
            share = max(sqrt(max(warmup, 1) / (step + 1)), self.floor)
        else:
            share = self._shape(min((step - warmup) / rest, 1.0))
            share = self.floor + (1.0 - self.floor) * share
        return self.peak * share

    def _shape(self, done: float) -> float:
        """Factor on the peak when the share `done` of the steps after warmup is done."""
        if self.shape == "linear":
            return 1.0 - done
        if self.shape == "cosine":
            return 0.5 * (1.0 + cos(pi * done))
        if self.shape == "wsd":
            return min(1.0, (1.0 - done) / WSD_DECAY)
        return 1.0
