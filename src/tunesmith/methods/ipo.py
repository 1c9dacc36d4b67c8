"""Identity preference optimisation: a gap of fixed size, so that certain labels are not overfitted.

    L = (h - 1 / (2 tau))^2,   h = (log p(w|x) - log p0(w|x)) - (log p(l|x) - log p0(l|x))

w is the chosen answer, l the rejected one, p the model, p0 the model before step 1.
arXiv:2310.12036, eq. 17, tau written `beta` here as in the other methods. With `average`, log p of
an answer is the mean over its tokens: the form that its authors used for the results of the paper,
according to TRL's source. Sums make the gap a matter of length.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor

from tunesmith.config.section import Section
from tunesmith.data.example import Batch
from tunesmith.methods._pairs import encoder, imitation, less_reference, log_probs, told
from tunesmith.methods.base import LossSum, summed
from tunesmith.models.policy import Policy

__all__ = ["NEEDS", "Config", "encoder", "loss", "measure"]

NEEDS: frozenset[str] = frozenset({"reference"})


class Config(Section):
    """Keys of `method` with `name: ipo`."""

    name: Literal["ipo"] = "ipo"
    """Widen the gap between chosen and rejected answers to a fixed size."""
    beta: float = Field(0.1, gt=0)
    """tau of the paper: the gap aimed at is 1 / (2 beta)."""
    average: bool = True
    """Whether log-probabilities are means over the tokens of an answer, not sums."""
    sft_weight: float = Field(0.0, ge=0)
    """Weight of the likelihood of the chosen answer, added so that it does not fall."""


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The loss summed over pairs, and how many they are."""
    return summed(measure(policy, batch, config))


def measure(policy: Policy, batch: Batch, config: Config) -> dict[str, Tensor]:
    """(P,) of each pair; see `_pairs.told`. The reward is the log-ratio."""
    sides = log_probs(policy, batch)
    ratios = less_reference(sides, batch)
    ratios = ratios.per_token() if config.average else ratios
    loss_P = (ratios.difference_P - 1 / (2 * config.beta)).square()
    if config.sft_weight:
        loss_P = loss_P + config.sft_weight * imitation(sides)
    return told(loss_P, ratios, sides)
