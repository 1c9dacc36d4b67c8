"""The loop: the page that everyone reads.

It knows no method, model or device by name. What changes a run (the guard, evaluation, saving,
stopping) is called directly; what watches it gets events. Losses come as sums; the one division is
here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tunesmith.data.example import Batch
from tunesmith.data.loader import Loader
from tunesmith.engine.guard import PATIENCE, Guard
from tunesmith.engine.memory import peak_gib
from tunesmith.engine.rewind import Rewind, diverged
from tunesmith.engine.saving import UnsoundError
from tunesmith.engine.schedule import LearningRate
from tunesmith.engine.sound import unsound
from tunesmith.engine.watch import Watch
from tunesmith.errors import Interrupted
from tunesmith.methods.base import LossSum
from tunesmith.models.resting import resting
from tunesmith.runs.events import Event, Step

__all__ = ["PATIENCE", "Parts", "train"]


@dataclass
class Parts:
    """What the loop runs with, built by `api`."""

    model: nn.Module
    loss: Callable[[Batch], LossSum]
    loader: Loader
    parameters: list[nn.Parameter]
    optimizer: Optimizer
    learning_rate: LearningRate
    clip: float | None
    seed: int
    device: torch.device
    notice: Callable[[Event], None]
    evaluate: Callable[[int], bool]
    """Measures the model if that is due after so many steps; says whether it did."""
    save: Callable[[int, bool], None]
    """Writes a checkpoint after so many steps if that is due, or if the flag says so."""
    stop: Callable[[], bool]
    """Whether the user asked for an end."""
    guard: Guard = field(default=None)  # type: ignore[assignment]
    watch: Watch = field(default=None)  # type: ignore[assignment]
    rewind: Rewind | None = None
    """Goes back to a healthy checkpoint; without one, what would make it go back ends the run."""

    def __post_init__(self) -> None:
        self.guard = self.guard or Guard(self.loader.num_steps)
        self.watch = self.watch or Watch(self.parameters)

    @property
    def rejected(self) -> int:
        """Steps rejected so far."""
        return self.guard.rejected


def train(parts: Parts, first: int = 0) -> None:
    """Run the steps from `first` (steps already done) to the end.

    Raises:
        RunError: The run diverged; its last checkpoint is healthy.
        Interrupted: The user asked for an end; a checkpoint of the last step is there.
    """
    step, num_steps, guard = first, parts.loader.num_steps, parts.guard
    while step < num_steps:
        start, report = perf_counter(), None
        # None at all where the run has gone back and every row of the step is left out.
        batches = [batch.to(parts.device) for batch in parts.loader.step(step)]
        if batches:
            torch.manual_seed(step_seed(parts.seed, step))
            total, count = forward_backward(parts, batches)
            gradients = [p.grad for p in parts.parameters if p.grad is not None]
            torch._foreach_div_(gradients, float(max(count, 1)))
            norm = clip_gradients(gradients, parts.clip)
            loss, grad_norm = torch.stack([total / max(count, 1), norm]).tolist()

            reason, moved = guard.judge(loss, grad_norm), None
            rate = parts.learning_rate(step)
            if not reason:
                set_rate(parts.optimizer, rate)
                moved = parts.watch.around(step, parts.optimizer.step)
                guard.accept(step, loss, grad_norm)
            else:
                guard.reject(parts.loader.examples(step))
            parts.optimizer.zero_grad(set_to_none=True)

            report = Step(
                step=step + 1,
                epoch=parts.loader.epoch_after(step),
                loss=loss,
                learning_rate=rate,
                grad_norm=grad_norm,
                tokens=sum(batch.num_tokens for batch in batches),
                tokens_trained=sum(batch.num_trained for batch in batches),
                seconds=perf_counter() - start,
                memory_gib=peak_gib(parts.device),
                rejected=bool(reason),
                rows=tuple(row for batch in batches for row in batch.rows) if reason else (),
                reason=reason,
                update_norm=moved and moved.update_norm,
                grown_norm=moved and moved.grown_norm,
            )
            parts.notice(report)

        if trouble := broken(parts, step + 1, report):
            step = go_back(parts, step + 1, trouble)
            continue
        evaluated = parts.evaluate(step + 1)
        stopping = parts.stop() and step + 1 < num_steps
        try:
            parts.save(step + 1, evaluated or stopping or step + 1 == num_steps)
        except UnsoundError as error:
            step = go_back(parts, step + 1, error.got)
            continue
        step += 1
        if stopping:
            raise Interrupted("training", got=f"a request to stop after step {step} of {num_steps}")


def forward_backward(parts: Parts, batches: list[Batch]) -> tuple[Tensor, int]:
    """Add up losses, counts and gradients over the forward passes of one step."""
    parts.model.train()
    total = torch.zeros((), dtype=torch.float32, device=parts.device)
    count = 0
    for batch in batches:
        part = parts.loss(batch)
        part.total.backward()
        total += part.total.detach()
        count += part.count
    return total, count


def clip_gradients(gradients: list[Tensor], limit: float | None) -> Tensor:
    """Scale `gradients` in place so that their common norm is at most `limit`.

    Returns:
        () float32, the norm before clipping.
    """
    norm = nn.utils.get_total_norm(gradients).float()
    if limit is not None:
        factor = torch.clamp(limit / (norm + 1e-6), max=1.0)
        torch._foreach_mul_(gradients, factor)
    return norm


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def step_seed(seed: int, step: int) -> int:
    """Seed of one step: a function of both, so that a resumed run drops out the same units."""
    return (seed * 1_000_003 + step) % (2**63)


def broken(parts: Parts, done: int, report: Step | None) -> str:
    """Why the run cannot go on after so many steps; empty when it can.

    Args:
        parts: Of the run.
        done: Steps done.
        report: Of the last of them, if it had rows.

    Raises:
        RunError: The model is worse than at the start, and leaving out rows would not help.
    """
    guard = parts.guard
    if report is not None and report.rejected:
        if bad := unsound({str(number): p for number, p in enumerate(parts.parameters)}):
            guard.excuse(parts.loader.examples(done - 1))
            return f"NaN or infinity in {len(bad)} of {len(parts.parameters)} trained tensors"
        if guard.exhausted:
            rows = ", ".join(f"{source}:{row}" for source, row in report.rows[:8])
            return f"{report.reason}; {guard.exhausted}; rows of the last: {rows}"
    if guard.suspects(done) and guard.ruined(now := first_loss(parts)):
        before = f"{guard.first[1]:.4g}" if guard.first else "unknown"
        why = f"loss {now:.4g} on the rows of the first accepted step; it was {before} before it"
        go_back(parts, done, why, again=False)
    return ""


@torch.no_grad()
def first_loss(parts: Parts) -> float:
    """The loss now, in nats per trained token, on the rows of the first accepted step.

    NaN where no step was ever accepted.
    """
    if parts.guard.first is None:
        return float("nan")
    with resting(parts.model):
        batches = parts.loader.again(parts.guard.first[0])
        sums = [parts.loss(batch.to(parts.device)) for batch in batches]
    return float(sum(part.total for part in sums)) / max(sum(part.count for part in sums), 1)


def go_back(parts: Parts, done: int, why: str, again: bool = True) -> int:
    """Go back to the last healthy checkpoint; returns the steps done there.

    Raises:
        RunError: It must not be tried `again`, was tried too often, or there is no checkpoint.
    """
    if parts.rewind is None:
        raise diverged(done, why)
    return parts.rewind(done, why, again)
