"""The loop: the page that everyone reads.

It knows no method, model or device by name. What changes a run (evaluation, saving, stopping) is
called directly; what watches it gets events. Losses come as sums; the one division is here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tunesmith.data.example import Batch, digest
from tunesmith.data.loader import Loader
from tunesmith.engine.memory import peak_gib
from tunesmith.engine.schedule import LearningRate
from tunesmith.errors import Interrupted, RunError
from tunesmith.methods.base import LossSum
from tunesmith.runs.events import Event, Step

PATIENCE = 3
"""Rejected steps in a row after which the run has diverged: one bad row is survived, a model
that no longer computes is not."""


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
    until: int | None = field(default=None)
    """Steps done at which to end as if the user had asked; the schedule stays that of the run."""
    rejected_in_a_row: int = field(default=0)
    rejected: int = field(default=0)


def train(parts: Parts, first: int = 0) -> None:
    """Run the steps from `first` (steps already done) to the end.

    Raises:
        RunError: Loss or gradient was not finite in PATIENCE steps in a row.
        Interrupted: The user asked for an end; a checkpoint of the last step is there.
    """
    num_steps = parts.loader.num_steps
    for step in range(first, num_steps):
        start = perf_counter()
        loaded = parts.loader.step(step)
        batches = [batch.to(parts.device) for batch in loaded]
        torch.manual_seed(step_seed(parts.seed, step))

        total, count = forward_backward(parts, batches)
        gradients = [p.grad for p in parts.parameters if p.grad is not None]
        torch._foreach_div_(gradients, float(max(count, 1)))
        norm = clip_gradients(gradients, parts.clip)

        loss, grad_norm = torch.stack([total / max(count, 1), norm]).tolist()
        accepted = bool(torch.isfinite(torch.tensor([loss, grad_norm])).all())
        rate = parts.learning_rate(step)
        if accepted:
            set_rate(parts.optimizer, rate)
            parts.optimizer.step()
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
            rejected=not accepted,
            rows=() if accepted else tuple(row for batch in batches for row in batch.rows),
            digest=digest(loaded),
            seed=torch.initial_seed(),
        )
        parts.notice(report)
        judge(parts, report)

        evaluated = parts.evaluate(step + 1)
        stopping = (parts.stop() or step + 1 == parts.until) and step + 1 < num_steps
        parts.save(step + 1, evaluated or stopping or step + 1 == num_steps)
        if stopping:
            raise Interrupted(
                "training", got=f"a request to stop after step {step + 1} of {num_steps}"
            )


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


def judge(parts: Parts, report: Step) -> None:
    """Count rejected steps; end the run when they do not stop coming."""
    if not report.rejected:
        parts.rejected_in_a_row = 0
        return
    parts.rejected += 1
    parts.rejected_in_a_row += 1
    if parts.rejected_in_a_row >= PATIENCE:
        rows = ", ".join(f"{source}:{row}" for source, row in report.rows[:8])
        raise RunError(
            f"step {report.step}",
            got=f"loss {report.loss}, gradient norm {report.grad_norm}, "
            f"{PATIENCE} steps in a row; rows of the last: {rows}",
            expected="finite numbers",
            hint="lower train.learning_rate, or set train.precision: fp32",
        )
