"""Groups and batches with given numbers, for tests of methods that draw their answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tunesmith.data.collate import collate
from tunesmith.data.example import Batch
from tunesmith.data.rollout import Group, Lesson
from tunesmith.engine.rollouts.examples import example_of


def group(
    lengths: Sequence[int],
    rewards: Sequence[float],
    stopped: Sequence[bool] | None = None,
    number: int = 0,
    **by_token: Sequence[float],
) -> Group:
    """Answers of these lengths to a prompt of two tokens; each token differs from all others."""
    starts = np.cumsum([0, *lengths[:-1]]) + 3 + 20 * number
    named = {"sampler": np.zeros(sum(lengths)), **by_token}
    return Group(
        example=number,
        source="rows.jsonl",
        row=number + 1,
        prompt=np.array([1, 2], dtype=np.int32),
        answers=tuple(
            np.arange(start, start + length, dtype=np.int32)
            for start, length in zip(starts, lengths, strict=True)
        ),
        stopped=np.array(stopped or [True] * len(lengths)),
        rewards=np.array(rewards, dtype=np.float32),
        by_token={n: np.array(values, dtype=np.float32) for n, values in named.items()},
    )


def groups_of(told: Mapping[str, Any], size: int, names: Sequence[str]) -> list[Group]:
    """Groups of `size` answers, of numbers that stand in one row for all tokens of all answers."""
    ends, lengths = np.cumsum(told["lengths"]), told["lengths"]
    found = []
    for first in range(0, len(lengths), size):
        answers = slice(first, first + size)
        tokens = slice(ends[first] - lengths[first], ends[first + size - 1])
        numbers = {name: told[name][tokens] for name in names}
        found.append(group(lengths[answers], told["rewards"][answers], number=first, **numbers))
    return found


def batch_of(groups: Sequence[Group], lessons: Sequence[Lesson]) -> Batch:
    """The groups in one pass."""
    return collate([example_of(g, x) for g, x in zip(groups, lessons, strict=True)], True, 0)


class Given:
    """A policy whose log-probabilities, and values, are what the test says.

    Attributes:
        log_probs: (N,) of the trained tokens of the next batch; requires a gradient.
        states: (N, 1) what the companion gets; it hands them on.
    """

    def __init__(self, log_probs: Sequence[float], values: Sequence[float] = ()) -> None:
        self.log_probs = torch.tensor(log_probs, requires_grad=True)
        self.states = torch.tensor(values)[:, None].requires_grad_()
        self.temperatures: list[float] = []

    def token_nll(self, batch: Batch, temperature: float = 1.0) -> torch.Tensor:
        """-log_probs."""
        self.temperatures.append(temperature)
        return -self.log_probs

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Their sum."""
        return -self.log_probs.sum()

    def nll_and_states(self, batch: Batch, temperature: float = 1.0) -> tuple:
        """Both."""
        return self.token_nll(batch, temperature), self.states

    def companion(self, states: torch.Tensor) -> torch.Tensor:
        """The states themselves."""
        return states
