"""Will it fit, and how long will it take: real forward passes and steps, put back afterwards."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from tunesmith.data.example import Batch
from tunesmith.data.loader import Loader
from tunesmith.data.survey import Survey
from tunesmith.engine.activations import bytes_per_token
from tunesmith.engine.loop import clip_gradients, set_rate
from tunesmith.engine.memory import GIB, available_gib, peak_gib, resident_gib
from tunesmith.engine.pace import Pace, fit_pace, spread
from tunesmith.methods.base import LossSum

TYPICAL = 8
"""Passes through which the line of the pace is laid, besides the worst."""
REPEATS = 3
"""Times that each is measured at most; the median counts."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What the measured passes and steps say about the whole run.

    Attributes:
        worst_batch_tokens: Tokens of the most expensive pass, padding included.
        peak_memory_gib: Highest so far in this process, everything loaded and that pass run.
        available_memory_gib: What this process could have.
        activation_gib: What autograd keeps of the worst pass; of it, a share goes with its size.
        tokens_per_second: Padding not counted, optimizer steps included.
        predicted_seconds: Of the training alone, without evaluations.
        passes_per_step: Forward passes of an optimizer step, on average.
        padding: Share of the computed tokens that are padding.
        imbalance: What the costliest pass of a step takes over the mean, as a share.
    """

    worst_batch_tokens: int
    peak_memory_gib: float
    available_memory_gib: float
    activation_gib: float
    tokens_per_second: float
    predicted_seconds: float
    passes_per_step: float
    padding: float
    imbalance: float

    @property
    def fits(self) -> bool:
        """Whether the peak is within what there is."""
        return self.peak_memory_gib <= self.available_memory_gib


@dataclass(frozen=True)
class Trial:
    """Runs passes and steps that move nothing: the learning rate is 0.

    Attributes:
        model: The model; it is put into training mode.
        loss: Of one batch.
        optimizer: Must be thrown away afterwards, so that no moment stays.
        parameters: The trained ones.
        clip: As the loop clips.
        device: Where it computes.
    """

    model: nn.Module
    loss: Callable[[Batch], LossSum]
    optimizer: Optimizer
    parameters: list[nn.Parameter]
    clip: float | None
    device: torch.device

    def forward_backward(self, batch: Batch) -> float:
        """Seconds of one pass; gradients add up, as they do within a step."""
        start = self._now()
        self.loss(batch).total.backward()
        return self._now() - start

    def step(self) -> float:
        """Seconds of all that a step does once, whatever its passes are."""
        start = self._now()
        set_rate(self.optimizer, 0.0)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        torch._foreach_div_(gradients, 1.0)
        clip_gradients(gradients, self.clip).item()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return self._now() - start

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return perf_counter()


def measure(trial: Trial, loader: Loader, seconds: float) -> Fit:
    """Run the worst pass of the plan, then typical ones, each with backward and optimizer step.

    A worst pass that would not fit, going by what smaller ones keep, is not run: the peak is then
    the sum of what is held and what it would keep.

    Args:
        trial: Runs them.
        loader: Plans them.
        seconds: How long may be spent on the typical ones; at least two are measured, of which a
            worst one that takes longer than that is one.
    """
    trial.model.train()
    survey = loader.survey()
    worst = loader.worst()
    trial.forward_backward(_batch(trial, loader, survey, int(survey.cost.argmin())))
    steps, found = [trial.step()], {}
    tokens = worst.input_ids.numel()
    kept = activation_gib(trial, loader) * tokens
    peak, available = resident_gib(trial.device) + kept, available_gib(trial.device)
    if peak <= available:
        for _ in range(2):  # The first one warms caches up, which matters little to a long one.
            taken = trial.forward_backward(worst.to(trial.device))
            steps = [trial.step()]
            if taken > seconds:
                found = _among(survey, tokens, taken)
                break
        peak = None
    pace = _pace(trial, loader, survey, seconds, steps, found)
    passes = pace.seconds(survey.tokens, survey.squares).sum() / survey.num_steps
    per_step = median(steps) + passes
    return Fit(
        worst_batch_tokens=tokens,
        peak_memory_gib=peak_gib(trial.device) if peak is None else peak,
        available_memory_gib=available,
        activation_gib=kept,
        tokens_per_second=float(survey.real_tokens.sum() / survey.num_steps / per_step),
        predicted_seconds=float(per_step * loader.num_steps),
        passes_per_step=len(survey.examples) / survey.num_steps,
        padding=survey.padding,
        imbalance=survey.imbalance,
    )


def activation_gib(trial: Trial, loader: Loader) -> float:
    """What autograd keeps of each token until the backward pass, in GiB, seen on small passes."""
    survey = loader.survey()
    chosen = spread(survey.cost, 2)  # One, where the whole run is a single pass.
    small, middle = (_batch(trial, loader, survey, i) for i in (chosen[0], chosen[-1]))
    return bytes_per_token(trial.loss, small, middle) / GIB


def _batch(trial: Trial, loader: Loader, survey: Survey, index: int) -> Batch:
    return loader.batch(survey.examples[index]).to(trial.device)


def _among(survey: Survey, tokens: int, seconds: float) -> dict[int, list[float]]:
    """What the worst pass took, by its index if it is one of those that stand for the run."""
    costliest = int(survey.cost.argmax())
    return {costliest: [seconds]} if survey.tokens[costliest] == tokens else {}


def _pace(
    trial: Trial,
    loader: Loader,
    survey: Survey,
    seconds: float,
    steps: list[float],
    found: dict[int, list[float]],
) -> Pace:
    """The line through typical passes; seconds of the steps between them go to `steps`.

    `found` has what is known already, by index of the pass; it gets the rest.
    """
    chosen = spread(survey.cost, TYPICAL)
    # Far apart first, in case that the time ends before all have had their turn.
    turns = [*chosen[::2], *chosen[1::2]] * REPEATS
    end = perf_counter() + seconds
    for index in turns:
        if len(found) > 1 and perf_counter() > end:
            break
        batch = _batch(trial, loader, survey, index)
        found.setdefault(int(index), []).append(trial.forward_backward(batch))
        steps.append(trial.step())
    used = np.array(list(found))
    return fit_pace(
        survey.tokens[used], survey.squares[used], [median(times) for times in found.values()]
    )
