"""Odds-ratio preference optimisation: supervised fine-tuning with a penalty, no reference.

    L = - log P(w|x) - beta log sigmoid(log (odds(w|x) / odds(l|x))),   odds(y|x) = P / (1 - P)

w is the chosen answer, l the rejected one; log P(y|x) is the mean log-probability of the tokens of
y. arXiv:2403.07691, eq. 4, 6 and 7, lambda written `beta` here as in the other methods. The first
term is over the answer alone, as in `sft`; TRL's is over the prompt too.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from tunesmith.config.section import Section
from tunesmith.data.example import Batch
from tunesmith.methods._pairs import Sides, encoder, imitation, log_probs, logistic, told
from tunesmith.methods.base import LossSum, summed
from tunesmith.models.policy import Policy

__all__ = ["NEEDS", "Config", "encoder", "loss", "measure"]

NEEDS: frozenset[str] = frozenset()

LARGEST = -1e-6
"""Of a mean log-probability: where it is 0, the answer is certain and its odds have no number."""


class Config(Section):
    """Keys of `method` with `name: orpo`."""

    name: Literal["orpo"] = "orpo"
    """Train on chosen answers, and raise their odds over those of rejected ones."""
    beta: float = Field(0.1, ge=0)
    """Weight of the odds ratio, lambda of the paper."""


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The loss summed over pairs, and how many they are."""
    return summed(measure(policy, batch, config))


def measure(policy: Policy, batch: Batch, config: Config) -> dict[str, Tensor]:
    """(P,) of each pair; see `_pairs.told`. The reward is the logarithm of the odds."""
    sides = log_probs(policy, batch)
    means = sides.per_token()
    odds = Sides(
        _log_odds(means.chosen_P),
        _log_odds(means.rejected_P),
        means.chosen_tokens_P,
        means.rejected_tokens_P,
    )
    loss_P = imitation(sides) + config.beta * logistic(odds.difference_P, 0.0)
    return told(loss_P, odds, sides)


def _log_odds(log_p: Tensor) -> Tensor:
    """Logarithm of P / (1 - P) from that of P, below 0; without cancellation near P = 1."""
    log_p = log_p.clamp(max=LARGEST)
    return log_p - torch.log(-torch.expm1(log_p))
