"""Will it fit, and how long will it take: one real step on the worst batch that is planned."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch.optim import Optimizer

from tunesmith.data.example import Batch
from tunesmith.data.loader import Loader
from tunesmith.engine.loop import set_rate
from tunesmith.engine.memory import available_gib, peak_gib
from tunesmith.methods.base import LossSum


@dataclass(frozen=True, slots=True)
class Fit:
    """What the measured step says about the whole run."""

    worst_batch_tokens: int
    peak_memory_gib: float
    available_memory_gib: float
    tokens_per_second: float
    predicted_seconds: float
    """Training alone, without evaluations."""


def measure(
    loader: Loader,
    loss: Callable[[Batch], LossSum],
    optimizer: Optimizer,
    num_tokens: float,
    device: torch.device,
) -> Fit:
    """Run forward, backward and an optimizer step on the worst planned batch.

    `num_tokens` is what the whole run will train on, padding not counted.

    The learning rate of that step is 0 and `optimizer` must be thrown away afterwards, so that no
    parameter moves and no moment stays. Two passes run; the second, with warm caches, is timed.
    """
    batch = loader.worst().to(device)
    set_rate(optimizer, 0.0)
    for _ in range(2):
        start = perf_counter()
        loss(batch).total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = perf_counter() - start
    speed = batch.num_tokens / seconds
    return Fit(
        worst_batch_tokens=batch.num_tokens,
        peak_memory_gib=peak_gib(device),
        available_memory_gib=available_gib(device),
        tokens_per_second=speed,
        predicted_seconds=num_tokens / speed,
    )
