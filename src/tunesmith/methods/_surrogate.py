"""The clipped objective of policy gradients, and what it is averaged over.

With rho_t = pi(t) / pi_old(t) and an advantage A (PPO, arXiv:1707.06347, eq. 7):

    l_t = -min(rho_t A, clip(rho_t, 1 - low, 1 + high) A)

All is summed here and divided by the loop, so a step may be cut into passes anywhere between
answers.

Legend: N trained tokens of a batch, R its answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tunesmith.data.example import Batch

Estimator = Literal["k1", "k2", "k3"]
Figures = dict[str, tuple[Tensor, int]]


@dataclass(frozen=True, slots=True)
class Clip:
    """How far a ratio may lead below and above 1 before it leads no further."""

    low: float
    high: float

    def loss(self, log_ratio: Tensor, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """The loss for each ratio, and whether it was clipped; both of the shape of `log_ratio`."""
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - self.low, 1 + self.high)
        loss = -torch.minimum(ratio * advantage, clipped * advantage)
        outside = ((ratio > 1 + self.high) & (advantage > 0)) | (
            (ratio < 1 - self.low) & (advantage < 0)
        )
        return loss, outside


def old(batch: Batch, log_probs_N: Tensor) -> Tensor:
    """(N,) log-probabilities when the answers were drawn; at the only step, those of now."""
    return batch.numbers.get("old", log_probs_N.detach())


def kl(log_probs_N: Tensor, reference_N: Tensor, estimator: Estimator) -> Tensor:
    """(N,) estimates of KL(pi || reference) at each token, from the token that was drawn.

    With d = log pi - log ref (Schulman, http://joschu.net/blog/kl-approx.html):

        k1 = d        k2 = d^2 / 2        k3 = exp(-d) - 1 + d
    """
    d_N = log_probs_N - reference_N
    if estimator == "k1":
        return d_N
    return d_N.square() / 2 if estimator == "k2" else (-d_N).exp() - 1 + d_N


def sums(values_N: Tensor, batch: Batch) -> Tensor:
    """(R,) sums over the tokens of each answer."""
    return torch.stack([part.sum() for part in values_N.split(batch.targets_per_row)])


def spread(values_R: Tensor, batch: Batch) -> Tensor:
    """(N,) the value of each answer at each of its tokens."""
    return values_R.repeat_interleave(counts(batch, values_R.device))


def means(values_N: Tensor, batch: Batch) -> Tensor:
    """(R,) means over the tokens of each answer."""
    return sums(values_N, batch) / counts(batch, values_N.device)


def counts(batch: Batch, device: torch.device) -> Tensor:
    """(R,) int64, tokens of each answer."""
    return torch.tensor(batch.targets_per_row, device=device)


def drift(batch: Batch, log_probs_N: Tensor) -> Figures:
    """What every policy method tells of the tokens: how far training and sampling are apart.

    `sampler_gap` is the mean of |log pi - log pi_sampler| at the time of drawing, which would be 0
    if both computed alike; `kl`, where it is watched, the mean of log pi - log ref now.
    """
    now_N, number = log_probs_N.detach(), len(log_probs_N)
    numbers: Mapping[str, Tensor] = batch.numbers
    gap_N = (old(batch, now_N) - numbers["sampler"]).abs()
    told = {"sampler_gap": (gap_N.sum(), number)}
    if "reference" in numbers:
        told["kl"] = ((now_N - numbers["reference"]).sum(), number)
    return told
