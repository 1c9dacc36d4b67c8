"""A robust window over accepted steps: what is usual, and where the unusual begins.

Median and MAD (Rousseeuw and Croux 1993, doi:10.1080/01621459.1993.10476408) are not moved by the
few values that they are to find, as mean and standard deviation are. A rejected value never enters.
"""

from dataclasses import dataclass, field
from statistics import median

LENGTH = 128
"""Steps of the window, as in OLMo-core's SkipStepOptimizer."""
FIRST = 8
"""Steps before anything is judged; their median is where the run began."""
ACTIVE = 16
"""Steps from which the width is trusted; before, it counts twice."""
SIGMAS = 8.0
"""Widths of a normal distribution above the median. Batches of few rows have heavy tails: OLMo-core
takes 6, of batches of millions of tokens."""
CONSISTENCY = 1.4826
"""MAD of a normal distribution times this is its standard deviation."""


@dataclass
class Window:
    """The last values of accepted steps, of loss or logarithm of the gradient norm.

    Attributes:
        least: Smallest distance above what is usual that is called unusual: where values hardly
            vary, as at the end of a run that has learned its rows, 8 widths are next to nothing.
        values: The last LENGTH of them, oldest first.
        num_seen: All that were ever added.
        start: Median of the first FIRST values; None while there are fewer.
    """

    least: float
    values: list[float] = field(default_factory=list)
    num_seen: int = 0
    start: float | None = None

    def add(self, value: float) -> None:
        """Take in the value of an accepted step."""
        self.values = [*self.values[-(LENGTH - 1) :], value]
        self.num_seen += 1
        if self.num_seen == FIRST:
            self.start = median(self.values)

    @property
    def limit(self) -> float | None:
        """The highest value that is not unusual; None while too little is known.

        What a run had at its start is never unusual later on: a row that the model has not learned
        is as hard as all were then.
        """
        if self.start is None:
            return None
        usual = median(self.values)
        width = CONSISTENCY * median(abs(value - usual) for value in self.values)
        caution = 1.0 if self.num_seen >= ACTIVE else 2.0
        return max(usual, self.start) + max(caution * SIGMAS * width, self.least)

    def recent(self, count: int) -> float | None:
        """Median of the last `count` values, of all when there are fewer; None without any."""
        return median(self.values[-count:]) if self.values else None
