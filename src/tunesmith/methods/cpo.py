"""Contrastive preference optimisation: likelihood and a contrast, without a reference.

    L = - log sigmoid(z) - a log p(w|x) / |w|,   z = beta (log p(w|x) - log p(l|x))

w is the chosen answer, l the rejected one, p the model; a is `sft_weight`. arXiv:2401.08417, eq. 5,
the likelihood taken as the mean over the tokens of the answer. With `sft_weight: 0` this is DPO
under a uniform reference. Smoothing and hinge are those of `dpo`.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from tunesmith.config.section import Section
from tunesmith.data.example import Batch
from tunesmith.methods._pairs import encoder, imitation, log_probs, logistic, told
from tunesmith.methods.base import LossSum, summed
from tunesmith.models.policy import Policy

__all__ = ["NEEDS", "Config", "encoder", "loss", "measure"]

NEEDS: frozenset[str] = frozenset()


class Config(Section):
    """Keys of `method` with `name: cpo`."""

    name: Literal["cpo"] = "cpo"
    """Make chosen answers likely, and likelier than rejected ones, without a reference."""
    beta: float = Field(0.1, gt=0)
    """Scale of the difference between the log-probabilities of both answers."""
    variant: Literal["sigmoid", "hinge"] = "sigmoid"
    """Shape of the contrast."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Share of the rows whose chosen answer is in truth the worse one."""
    sft_weight: float = Field(1.0, ge=0)
    """Weight of the likelihood of the chosen answer."""

    @model_validator(mode="after")
    def _smoothing_has_a_meaning(self) -> "Config":
        if self.label_smoothing and self.variant == "hinge":
            raise ValueError("label_smoothing with variant sigmoid, not hinge")
        return self


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The loss summed over pairs, and how many they are."""
    return summed(measure(policy, batch, config))


def measure(policy: Policy, batch: Batch, config: Config) -> dict[str, Tensor]:
    """(P,) of each pair; see `_pairs.told`. The reward is beta times the log-probability."""
    sides = log_probs(policy, batch)
    rewards = sides.times(config.beta)
    z_P = rewards.difference_P
    hinge = config.variant == "hinge"
    loss_P = torch.relu(1 - z_P) if hinge else logistic(z_P, config.label_smoothing)
    if config.sft_weight:
        loss_P = loss_P + config.sft_weight * imitation(sides)
    return told(loss_P, rewards, sides)
