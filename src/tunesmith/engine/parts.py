"""What the loop runs with."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim import Optimizer

from tunesmith.data.example import Batch
from tunesmith.data.loader import Loader
from tunesmith.engine.ema import Ema
from tunesmith.engine.guard import Guard
from tunesmith.engine.measured import Measured
from tunesmith.engine.rewind import Rewind
from tunesmith.engine.schedule import LearningRate
from tunesmith.engine.watch import Watch
from tunesmith.methods.base import LossSum
from tunesmith.runs.events import Event


@dataclass
class Parts:
    """Built by `api`."""

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
    guard: Guard
    """Judges steps."""
    watch: Watch
    """Sees how far parameters move."""
    freeze: Callable[[int], None] = lambda step: None
    """Drops the gradients of what is not trained yet in this step."""
    measured: Measured = field(default_factory=Measured)
    """Which weights are measured and exported."""
    ema: Ema | None = None
    """The average of the trained weights, if one is kept."""
    ahead: Callable[[list[Batch]], list[Batch]] = list
    """Tells each batch of a step what its loss needs to know of the others."""
    until: int | None = None
    """Steps done at which to end as if the user had asked; the schedule stays that of the run."""
    rewind: Rewind | None = None
    """Goes back to a healthy checkpoint; without one, what would make it go back ends the run."""
