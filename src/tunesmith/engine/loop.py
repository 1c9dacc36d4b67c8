"""The loop: the page that everyone reads.

It knows no method, model or device by name. What changes a run (the guard, evaluation, saving,
stopping) is called directly; what watches it gets events. Losses come as sums; the one division is
here.
"""

from time import perf_counter

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tunesmith.data.example import Batch, digest
from tunesmith.engine.groups import RATE_FACTOR
from tunesmith.engine.memory import peak_gib
from tunesmith.engine.parts import Parts
from tunesmith.engine.saving import UnsoundError
from tunesmith.engine.trouble import broken, go_back
from tunesmith.errors import Interrupted
from tunesmith.methods.base import Sums
from tunesmith.runs.events import Step


def train(parts: Parts, first: int = 0) -> None:
    """Run the steps from `first` (steps already done) to the end.

    Raises:
        RunError: The run diverged; its last checkpoint is healthy.
        Interrupted: The user asked for an end; a checkpoint of the last step is there.
    """
    done, num_steps = first, parts.loader.num_steps
    while done < num_steps:
        report = take_step(parts, done)
        done += 1
        if trouble := broken(parts, done, report):
            done = go_back(parts, done, trouble)
            continue
        evaluated = parts.evaluate(done)
        stopping = (parts.stop() or done == parts.until) and done < num_steps
        try:
            parts.save(done, evaluated or stopping or done == num_steps)
        except UnsoundError as error:
            done = go_back(parts, done, error.got)
            continue
        if stopping:
            raise Interrupted("training", got=f"a request to stop after step {done} of {num_steps}")


def take_step(parts: Parts, step: int) -> Step | None:
    """Take the step of this number (from 0), if the guard accepts it, and tell what happened.

    Returns:
        What was told; None where the run has gone back and every row of the step is left out.
    """
    start = perf_counter()
    loaded = parts.loader.step(step)
    if not loaded:
        return None
    batches = [batch.to(parts.device) for batch in loaded]
    torch.manual_seed(step_seed(parts.seed, step))

    total, count, sums = forward_backward(parts, batches)
    parts.freeze(step)
    gradients = [p.grad for p in parts.parameters if p.grad is not None]
    divisor = float(count or 1)
    torch._foreach_div_(gradients, divisor)
    norm = clip_gradients(gradients, parts.clip)
    means = [value / number for value, number in sums.values()]
    loss, grad_norm, *figures = torch.stack([total / divisor, norm, *means]).tolist()

    rate, moved = parts.learning_rate(step), None
    reason = parts.guard.judge(loss, grad_norm)
    if reason:
        parts.guard.reject(parts.loader.examples(step))
    else:
        set_rate(parts.optimizer, rate)
        moved = parts.watch.around(step, parts.optimizer.step)
        parts.guard.accept(step, loss, grad_norm)
        if parts.ema is not None:
            parts.ema.update()
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
        digest=digest(loaded),
        seed=torch.initial_seed(),
        figures=dict(zip(sums, figures, strict=True)),
    )
    parts.notice(report)
    return report


def forward_backward(parts: Parts, batches: list[Batch]) -> tuple[Tensor, float, Sums]:
    """Add up losses, counts, figures and gradients over the forward passes of one step."""
    parts.model.train()
    total = torch.zeros((), dtype=torch.float32, device=parts.device)
    count, sums = 0, {}
    for batch in parts.ahead(batches):
        part = parts.loss(batch)
        part.total.backward()
        total += part.total.detach()
        count += part.count
        for name, (value, number) in part.figures.items():
            before = sums.get(name, (0.0, 0))
            sums[name] = (before[0] + value, before[1] + number)
    # What no row of the step counts for, such as the loss of a file, has no figure.
    return total, count, {name: (value, number) for name, (value, number) in sums.items() if number}


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
    """Give every parameter group the learning rate of the step, times its own factor."""
    for group in optimizer.param_groups:
        own = rate * group.get(RATE_FACTOR, 1.0)
        if isinstance(group["lr"], Tensor):  # Where the step is compiled.
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def step_seed(seed: int, step: int) -> int:
    """Seed of one step: a function of both, so that a resumed run drops out the same units."""
    return (seed * 1_000_003 + step) % (2**63)
