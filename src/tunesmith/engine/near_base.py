"""A term that keeps a model near its base on what it is trained on, for any method.

    loss = method's loss + weight * mean over the trained tokens of KL(base || now)

A method that counts examples instead of tokens gets the mean over the tokens of each sequence, and
of these the mean: the term stays in nats per token. The base is asked with the adapter off, at
rest, before each forward pass of the method: a step makes two more forward passes, and one more
backward pass.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunesmith.data.example import Batch
from tunesmith.methods.base import LossSum
from tunesmith.models.base_kl import token_kl
from tunesmith.models.policy import Policy
from tunesmith.models.resting import resting

FIGURE = "kl_to_base"


@dataclass(frozen=True)
class NearBase:
    """The loss of a method, and the term.

    Attributes:
        loss: The method's.
        policy: The model.
        disabled: Makes a context in which the model answers as the base.
        weight: Of the term.
    """

    loss: Callable[[Batch], LossSum]
    policy: Policy
    disabled: Callable[[], AbstractContextManager[Any]]
    weight: float

    def __call__(self, batch: Batch) -> LossSum:
        """The loss of one batch, summed and counted as the method does."""
        with torch.no_grad(), resting(self.policy.model), self.disabled():
            base = self.policy.features(batch)
        part = self.loss(batch)
        head = self.policy.head if self.policy.plain_head else None
        kl_N = token_kl(self.policy.states(batch), base, head)
        term = weighed(kl_N, batch.targets_per_row, part.count)
        told = {FIGURE: (kl_N.detach().sum(), len(kl_N))}
        return LossSum(part.total + self.weight * term, part.count, {**part.figures, **told})


def weighed(kl_N: Tensor, targets_per_row: tuple[int, ...], count: int) -> Tensor:
    """The term of one batch, () float32, to be divided by `count` as the loss is.

    Args:
        kl_N: At each trained token.
        targets_per_row: How many of them each sequence has.
        count: What the method's loss is divided by.
    """
    if count == len(kl_N):
        return kl_N.sum()
    means = [part.mean() for part in kl_N.split(targets_per_row) if len(part)]
    return torch.stack(means).sum() * (count / len(means)) if means else kl_N.sum()
