"""The guard: which steps are accepted, when the run has to go back, and how far.

It holds numbers only, and all of them are in every checkpoint: a resumed run judges as one that was
never stopped. The loop asks it, `rewind` moves it back.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from math import exp, isfinite, log
from typing import Any

from tunesmith.engine.window import Window

PATIENCE = 3
"""Rejected steps in a row after which the run goes back: one bad row is survived where it stands,
a model that no longer computes is not."""
BUDGET = 0.01
"""Share of the planned steps that may be rejected before the run goes back, at least PATIENCE."""
MAX_RETURNS = 3
"""Times that a run goes back; after that it has diverged."""
PROOF = 8
"""Accepted steps after a checkpoint that prove it healthy."""
RISE = 1.0
"""Nats above the first step's loss that are no progress: a factor of e in the probability of every
token."""
CHECK_EVERY = 16
"""Steps between looks at the level of the loss, and over which it is taken."""
FLOOR = 1e-12
"""Stands for a gradient norm of 0 where its logarithm is taken."""


@dataclass
class Guard:
    """What the guard knows. Steps are counted from 0 here, checkpoints by the steps done.

    Attributes:
        num_steps: Of the whole run.
        outliers: Whether finite steps are judged too; otherwise only what is not finite is.
        comparable: Whether losses of different steps say how well the model does. Those of answers
            that it draws itself do not: there, finite losses are never judged.
        losses: Of accepted steps, in nats.
        log_norms: Natural logarithms of their gradient norms.
        first: Number and loss of the first accepted step: the base, before anything was learned.
        level: Loss above which the run is looked at more closely.
        rejected: All rejected steps of the run so far.
        in_a_row: Rejected steps since the last accepted one.
        spent: Rejected steps since the run last went back.
        returns: Times that the run went back.
        blamed: Examples of rejected steps, not yet left out.
        left_out: Examples that no step uses any more.
        healthy: The checkpoint that later steps have proved; 0 is the start.
        pending: The next one to be proved, and how many steps had been accepted then.
    """

    num_steps: int
    outliers: bool = True
    comparable: bool = True
    losses: Window = field(default_factory=lambda: Window(least=1.0))
    log_norms: Window = field(default_factory=lambda: Window(least=log(10.0)))
    first: tuple[int, float] | None = None
    level: float = float("inf")
    rejected: int = 0
    in_a_row: int = 0
    spent: int = 0
    returns: int = 0
    blamed: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    healthy: int = 0
    pending: tuple[int, int] | None = None

    def judge(self, loss: float, norm: float) -> str:
        """Why a step with this loss and gradient norm is to be rejected; empty when it is not."""
        if not (isfinite(loss) and isfinite(norm)):
            return f"loss {loss:.4g}, gradient norm {norm:.4g}: not finite"
        if not self.outliers:
            return ""
        most, most_log = self.losses.limit, self.log_norms.limit
        if self.comparable and most is not None and loss > most:
            return f"loss {loss:.4g}, beyond {most:.4g}, the limit after the steps before"
        if most_log is not None and _log(norm) > most_log:
            most = exp(most_log)
            return f"gradient norm {norm:.4g}, beyond {most:.4g}, the limit after the steps before"
        return ""

    def accept(self, step: int, loss: float, norm: float) -> None:
        """Take in an accepted step; it may prove a checkpoint."""
        if self.first is None:
            self.first, self.level = (step, loss), loss + RISE
        self.losses.add(loss)
        if norm:  # Answers that all got the same reward have none: that says nothing of the others.
            self.log_norms.add(_log(norm))
        self.in_a_row = 0
        proved = self.pending and self.losses.num_seen >= self.pending[1] + PROOF
        if proved and not (self.comparable and self._high(PROOF)):
            self.healthy, self.pending = self.pending[0], None

    def reject(self, examples: Iterable[int]) -> None:
        """Take in a rejected step, made of these examples."""
        self.rejected += 1
        self.in_a_row += 1
        self.spent += 1
        self.blamed = sorted({*self.blamed, *examples})

    def excuse(self, examples: Iterable[int]) -> None:
        """These were not to blame: the model itself is broken."""
        self.blamed = sorted({*self.blamed} - {*examples})

    @property
    def exhausted(self) -> str:
        """Why the run cannot go on from here; empty when it can."""
        if self.in_a_row >= PATIENCE:
            return f"{self.in_a_row} steps in a row"
        most = max(PATIENCE, int(BUDGET * self.num_steps))
        return f"{self.spent} steps, more than {most}" if self.spent > most else ""

    def suspects(self, done: int) -> bool:
        """Whether the loss should be looked at again on the rows of the first step.

        That is so when it has stayed above where it began, and at the end also when the last steps
        were rejected, or all. Rows differ, so this is only the cheap half of the question.
        """
        last = done == self.num_steps
        if last and (self.in_a_row or self.first is None):
            return self.comparable or self.first is None
        due = last or done % CHECK_EVERY == 0
        return due and self.outliers and self.comparable and self._high(CHECK_EVERY)

    def ruined(self, loss: float) -> bool:
        """Whether the model is worse than at the start, by its loss on the rows of the first step.

        When it is not, the level is where the loss is now: its rows were easier than the others.
        """
        if self.first is None or not loss <= self.first[1] + RISE:
            return True
        self.level = max(self.level, self.losses.recent(CHECK_EVERY) or self.level)
        return False

    def saved(self, done: int) -> None:
        """A checkpoint is being made after so many steps: the next to be proved, if none waits."""
        if self.pending is None and done > self.healthy:
            self.pending = (done, self.losses.num_seen)

    @property
    def kept(self) -> set[int]:
        """Checkpoints that must not be deleted."""
        return {self.healthy} | ({self.pending[0]} if self.pending else set())

    def go_back(self, to: int, state: dict[str, Any]) -> None:
        """Be as at a checkpoint, but for what has been learned about rows and returns since.

        Args:
            to: Its step; it counts as healthy.
            state: What it holds of the guard.
        """
        left_out = sorted({*self.left_out, *self.blamed})
        rejected, returns = self.rejected, self.returns + 1
        self.load(state)
        self.left_out, self.blamed = left_out, []
        self.rejected, self.returns = rejected, returns
        self.in_a_row = self.spent = 0
        self.healthy, self.pending = to, None

    def state(self) -> dict[str, Any]:
        """All that a checkpoint keeps, JSON-able."""
        kept = asdict(self)
        return {k: v for k, v in kept.items() if k not in ("num_steps", "outliers", "comparable")}

    def load(self, state: dict[str, Any]) -> None:
        """Be as `state` says, which `state()` gave."""
        for name in ("losses", "log_norms"):
            setattr(self, name, Window(**state[name]))
        for name in state.keys() - {"losses", "log_norms"}:
            setattr(self, name, state[name])

    def _high(self, count: int) -> bool:
        recent = self.losses.recent(count)
        return recent is not None and recent > self.level


def _log(norm: float) -> float:
    return log(max(norm, FLOOR))
