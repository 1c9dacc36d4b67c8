"""The learning rate range test: a rate that rises from step to step, and what the loss makes of it.

Cyclical Learning Rates, arXiv:1506.01186, section 3.3. From each step's loss the loss of the
untrained model on the same rows is taken off, so that hard rows do not look like a bad rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isfinite, log

HALF_WIDTH = 2
"""Steps on either side over which a loss is averaged: 5 in all."""
RISE = 1.0
"""Nats above the untrained model at which the test ends: the model is ruined."""
GIVEN_BACK = 0.5
"""Share of its fall that the loss has lost again where training counts as diverging."""
LEAST_GAIN = 0.02
"""Nats that the loss must fall by for a rate to be suggested."""


@dataclass(frozen=True, slots=True)
class Rising:
    """The rate of each step, rising exponentially.

    Args:
        low: Of the first step.
        high: Of the last one.
        num_steps: At least 2.
    """

    low: float
    high: float
    num_steps: int

    def __call__(self, step: int) -> float:
        """Rate of `step`, counted from 0."""
        return exp(log(self.low) + (log(self.high / self.low)) * step / (self.num_steps - 1))


@dataclass(frozen=True, slots=True)
class Point:
    """One step of the test.

    Attributes:
        rate: Its learning rate.
        loss: Of its rows, before the update; nats per trained token.
        start: Of the same rows under the untrained model.
    """

    rate: float
    loss: float
    start: float

    @property
    def change(self) -> float:
        """The loss against that of the untrained model."""
        return self.loss - self.start

    @property
    def ruined(self) -> bool:
        """Whether the test ends here."""
        return not isfinite(self.loss) or self.change > RISE


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What the test says.

    Attributes:
        steepest: Rate at which the loss falls fastest, per factor of the rate.
        lowest: Rate at which it is lowest.
        diverged: Rate beyond it at which half of the fall is given back; None if none was so high.
        suggested: A tenth of `diverged`, else `steepest`; None where the loss hardly fell at all.
    """

    steepest: float | None = None
    lowest: float | None = None
    diverged: float | None = None
    suggested: float | None = None


def smoothed(points: Sequence[Point]) -> list[float]:
    """The change of the loss at each step, averaged over its neighbours."""
    changes = [min(point.change, RISE) if isfinite(point.loss) else RISE for point in points]
    windows = (changes[max(i - HALF_WIDTH, 0) : i + HALF_WIDTH + 1] for i in range(len(changes)))
    return [sum(window) / len(window) for window in windows]


def suggest(points: Sequence[Point]) -> Suggestion:
    """Read a rate off the curve."""
    curve = smoothed(points)
    if len(curve) < 3 or min(curve) > -LEAST_GAIN:
        return Suggestion()
    least = curve.index(min(curve))
    inner = range(1, max(least, 2))
    slopes = {i: curve[min(i + 1, len(curve) - 1)] - curve[i - 1] for i in inner}
    steepest = points[min(slopes, key=lambda i: slopes[i])].rate
    high = [i for i in range(least, len(curve)) if curve[i] > GIVEN_BACK * curve[least]]
    diverged = points[high[0]].rate if high else None
    suggested = steepest if diverged is None else diverged / 10
    return Suggestion(steepest, points[least].rate, diverged, suggested)
