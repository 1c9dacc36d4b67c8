"""How far a run is, reckoned from its events alone: loss, speed, time left, last scores."""

from dataclasses import dataclass, field

from tunesmith.runs.events import Evaluated, Planned, Step
from tunesmith.runs.report.wording import count, duration, figure, gib, nats, percent

SMOOTHING = 0.9
"""Weight of the past in the smoothed loss and speed; about the last ten steps count."""
MAX_FIGURES = 2
"""What a method tells of its steps that the live line has room for: the first ones."""


@dataclass(slots=True)
class MovingMean:
    """Exponential moving mean, corrected for its start as in Adam (arXiv:1412.6980, section 3)."""

    total: float = 0.0
    weight: float = 0.0

    def add(self, value: float) -> None:
        """Takes in one more value."""
        self.total = SMOOTHING * self.total + (1 - SMOOTHING) * value
        self.weight = SMOOTHING * self.weight + (1 - SMOOTHING)

    @property
    def mean(self) -> float | None:
        """The mean; None before the first value."""
        return self.total / self.weight if self.weight else None


@dataclass(slots=True)
class Progress:
    """What the live line shows.

    Attributes:
        num_steps: Steps of the whole run; 0 while it is not planned.
        step: Last step done.
        memory_gib: Peak so far.
        base: Score of each task before training, by name.
        last: The last evaluation; None before the first.
    """

    num_steps: int = 0
    step: int = 0
    memory_gib: float | None = None
    base: dict[str, float] = field(default_factory=dict)
    last: Evaluated | None = None
    _loss: MovingMean = field(default_factory=MovingMean)
    _figures: dict[str, MovingMean] = field(default_factory=dict)
    _tokens: MovingMean = field(default_factory=MovingMean)
    _seconds: MovingMean = field(default_factory=MovingMean)
    _num_done: int = 0
    _evaluation_seconds: float = 0.0

    def plan(self, planned: Planned) -> None:
        """Takes note of how long the run is going to be."""
        self.num_steps = planned.num_steps

    def advance(self, step: Step) -> None:
        """Takes note of a step; the loss of a rejected one is not counted, its time is."""
        self.step, self.memory_gib = step.step, step.memory_gib
        self._num_done += 1
        self._seconds.add(step.seconds)
        self._tokens.add(step.tokens)
        if not step.rejected:
            self._loss.add(step.loss)
            for name, value in list(step.figures.items())[:MAX_FIGURES]:
                self._figures.setdefault(name, MovingMean()).add(value)

    def measure(self, evaluated: Evaluated) -> None:
        """Takes note of an evaluation; the one at step 0 is the base."""
        if evaluated.step == 0:
            self.base = {task.name: task.score for task in evaluated.tasks}
        else:
            self._evaluation_seconds += evaluated.seconds
        self.last = evaluated

    @property
    def tokens_per_second(self) -> float | None:
        """Speed over the last steps, evaluations not counted."""
        tokens, seconds = self._tokens.mean, self._seconds.mean
        return tokens / seconds if tokens is not None and seconds else None

    @property
    def seconds_left(self) -> float | None:
        """Time to the last step at the pace of late, evaluations counted in; None when unknown."""
        if self._seconds.mean is None or not self.num_steps:
            return None
        pace = self._seconds.mean + self._evaluation_seconds / self._num_done
        return max(0, self.num_steps - self.step) * pace

    def parts(self) -> list[str]:
        """The figures that are known, each with its name, most wanted first."""
        of_all = f"/{count(self.num_steps)}" if self.num_steps else ""
        made = [f"step {count(self.step)}{of_all}"]
        if self._loss.mean is not None:
            made.append(f"loss {figure(self._loss.mean, 3)}")
        made += [f"{worded(name)} {figure(m.mean, 3)}" for name, m in self._figures.items()]
        if self.tokens_per_second is not None:
            made.append(f"tok/s {count(self.tokens_per_second)}")
        if self.seconds_left:
            made.append(f"eta {duration(self.seconds_left)}")
        if self.memory_gib is not None:
            made.append(f"mem {gib(self.memory_gib)}")
        # Until something is measured, the base's scores would read as if they were this step's.
        return made + (scores(self.last, self.base) if self.last and self.last.step else [])


def scores(evaluated: Evaluated, base: dict[str, float]) -> list[str]:
    """What an evaluation measured: each task beside its base, then what was forgotten.

    Args:
        evaluated: The evaluation.
        base: Score of each task before training; one that is not in it stands alone.
    """
    if evaluated.step == 0:
        return [f"{task.name} {percent(task.score)}" for task in evaluated.tasks]
    made = []
    for task in evaluated.tasks:
        before = f" (base {percent(base[task.name])})" if task.name in base else ""
        made.append(f"{task.name} {percent(task.score)}{before}")
    if evaluated.forgetting is not None:
        made.append(f"forgetting KL {figure(evaluated.forgetting.kl)}")
    return made


def evaluation(evaluated: Evaluated, base: dict[str, float]) -> str:
    """One line about an evaluation, with the held-out loss and the time it took."""
    where = f"step {count(evaluated.step)}" if evaluated.step else "base"
    loss = [] if evaluated.loss is None else [f"held-out loss {nats(evaluated.loss)}"]
    loss += [f"{worded(name)} {figure(value)}" for name, value in evaluated.figures.items()]
    took = f"({duration(evaluated.seconds)})"
    return "  ".join([f"measured {where}", *loss, *scores(evaluated, base), took])


def worded(name: str) -> str:
    """The name of a figure as people write it."""
    return name.replace("_", " ")
