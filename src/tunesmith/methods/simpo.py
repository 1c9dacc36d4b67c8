"""SimPO: the mean log-probability as the reward, a margin to win by, no reference.

    L = - log sigmoid(beta / |w| log p(w|x) - beta / |l| log p(l|x) - gamma)

w is the chosen answer, l the rejected one, |.| its number of tokens, p the model.
arXiv:2405.14734, eq. 6. `sft_weight` adds - a log p(w|x) / |w|, which keeps what the model writes
likely (CPO-SimPO).
"""

from typing import Literal

from pydantic import Field
from torch import Tensor

from tunesmith.config.section import Section
from tunesmith.data.example import Batch
from tunesmith.methods._pairs import encoder, imitation, log_probs, logistic, told
from tunesmith.methods.base import LossSum, summed
from tunesmith.models.policy import Policy

__all__ = ["NEEDS", "Config", "encoder", "loss", "measure"]

NEEDS: frozenset[str] = frozenset()


class Config(Section):
    """Keys of `method` with `name: simpo`."""

    name: Literal["simpo"] = "simpo"
    """Make chosen answers likelier per token than rejected ones by a margin; no reference."""
    beta: float = Field(2.0, gt=0)
    """Scale of the mean log-probability; the paper uses 2 to 2.5, up to 10."""
    gamma: float = Field(1.0, ge=0)
    """How much the reward of the chosen answer must exceed the other; the paper: 0.3 to 1.6."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Share of the rows whose chosen answer is in truth the worse one."""
    sft_weight: float = Field(0.0, ge=0)
    """Weight of the likelihood of the chosen answer, added so that it does not fall."""


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The loss summed over pairs, and how many they are."""
    return summed(measure(policy, batch, config))


def measure(policy: Policy, batch: Batch, config: Config) -> dict[str, Tensor]:
    """(P,) of each pair; see `_pairs.told`. The reward is beta times the mean log-probability."""
    sides = log_probs(policy, batch)
    rewards = sides.per_token().times(config.beta)
    loss_P = logistic(rewards.difference_P - config.gamma, config.label_smoothing)
    if config.sft_weight:
        loss_P = loss_P + config.sft_weight * imitation(sides)
    return told(loss_P, rewards, sides)
