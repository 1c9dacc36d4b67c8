"""Kahneman-Tversky optimisation: learn from answers that somebody found good or bad.

    L = w_y (1 - sigmoid(beta s (r - z)))
    r = log p(y|x) - log p0(y|x)        s = 1 for a good answer, -1 for a bad one
    z = max(0, mean over i of log p(y_j|x_i) - log p0(y_j|x_i)),   j another row than i

p is the model, p0 the model before step 1, w_y a weight for either kind; no gradient flows through
z, an estimate of KL(p || p0). arXiv:2402.01306, eq. 7 and 8. The row j is fixed when rows are
encoded, as the next one of the file, and the mean is over all examples of a step: it is taken
before the step's first gradient (`ahead`), so that the cut into passes changes nothing. On held-out
rows the mean is over all of them.

`variant: apo_zero` is without z: L = w_y sigmoid(- beta s r), arXiv:2408.06266, eq. 7 unpaired.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from tunesmith.config.section import Section
from tunesmith.data.example import Batch
from tunesmith.data.part import only
from tunesmith.data.template import Renderer
from tunesmith.data.verdicts import GOOD, JudgedEncoder
from tunesmith.methods.base import LossSum, Sums, summed
from tunesmith.models.policy import Policy

NEEDS: frozenset[str] = frozenset({"reference"})

KL = "kl"
"""Name of the number that `ahead` finds and `loss` reads: z before it is cut off at 0."""


class Config(Section):
    """Keys of `method` with `name: kto`."""

    name: Literal["kto"] = "kto"
    """Learn from answers found good or bad, one by one."""
    beta: float = Field(0.1, gt=0)
    """How near the model stays to what it was: the smaller, the further it may move."""
    variant: Literal["kto", "apo_zero"] = "kto"
    """What answers are judged from: how far the model has moved, or nothing (apo_zero)."""
    good_weight: float = Field(1.0, gt=0)
    """Weight of good answers; weight times number should be 1 to 4/3 of that of bad ones."""
    bad_weight: float = Field(1.0, gt=0)
    """Weight of bad answers."""


def encoder(renderer: Renderer, config: Config) -> JudgedEncoder:
    """The answer with its verdict, and where it is needed, the answer of another row."""
    return JudgedEncoder(renderer, others=config.variant == "kto")


@torch.no_grad()
def ahead(policy: Policy, batch: Batch, config: Config) -> Sums:
    """Sum of the log-ratios of answers to something else, and how many they are."""
    if config.variant != "kto":
        return {}
    others = range(1, len(batch.rows), 2)
    ratios_E = policy.sequence_log_probs(only(batch, others)) - batch.numbers["reference"][1::2]
    return {KL: (ratios_E.sum(), len(ratios_E))}


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The loss summed over answers, and how many they are.

    A batch that was not told what `ahead` finds is taken for the whole step.
    """
    return summed(measure(policy, batch, config))


def measure(policy: Policy, batch: Batch, config: Config) -> dict[str, Tensor]:
    """(E,) of each answer.

    Returns:
        loss; margin: beta s (r - z); accuracy: 1 where it is above 0, half where 0; kl: z.
    """
    step = batch.units[0]
    real = only(batch, range(0, len(batch.rows), step))
    ratio_E = policy.sequence_log_probs(real) - batch.numbers["reference"][::step]
    good_E = batch.numbers[GOOD] > 0
    z = _z(policy, batch, config)
    margin_E = config.beta * torch.where(good_E, ratio_E - z, z - ratio_E)
    weight_E = torch.where(good_E, config.good_weight, config.bad_weight)
    return {
        "loss": weight_E * torch.sigmoid(-margin_E),
        "margin": margin_E.detach(),
        "accuracy": (margin_E.detach().sign() + 1) / 2,
        KL: z.expand_as(ratio_E),
    }


def _z(policy: Policy, batch: Batch, config: Config) -> Tensor:
    """() the point that answers are judged from."""
    if config.variant != "kto":
        return torch.zeros((), device=policy.device)
    if KL in batch.numbers:
        return batch.numbers[KL].clamp(min=0)
    total, count = ahead(policy, batch, config)[KL]
    return (total / count).clamp(min=0)
