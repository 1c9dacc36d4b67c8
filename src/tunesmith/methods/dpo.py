"""Direct preference optimisation: make the chosen answer likelier than the rejected one.

    L = - log sigmoid(z),   z = beta ((log p(w|x) - log p0(w|x)) - (log p(l|x) - log p0(l|x)))

w is the chosen answer, l the rejected one, p the model, p0 the model before step 1; log p of an
answer is the sum over its tokens. arXiv:2305.18290, eq. 7. The variants of it:

    smoothing e   - (1 - e) log sigmoid(z) - e log sigmoid(-z)                     cDPO, by the same
    robust        (- (1 - e) log sigmoid(z) + e log sigmoid(-z)) / (1 - 2 e)       arXiv:2403.00409
    hinge         max(0, 1 - z)                                                    arXiv:2305.10425
    average       log p of each answer divided by its number of tokens             arXiv:2405.14734
    sft_weight a  L - a log p(w|x) / |w|                                           arXiv:2404.19733
    margin_weight m   z - m (the row's margin)                                     arXiv:2402.10571

Without a reference, this is `cpo` with `sft_weight: 0`.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from tunesmith.config.section import Section
from tunesmith.data.example import Batch
from tunesmith.data.preferences import MARGIN, PairEncoder
from tunesmith.data.template import Renderer
from tunesmith.methods._pairs import imitation, less_reference, log_probs, logistic, told
from tunesmith.methods.base import LossSum, summed
from tunesmith.models.policy import Policy

NEEDS: frozenset[str] = frozenset({"reference"})


class Config(Section):
    """Keys of `method` with `name: dpo`."""

    name: Literal["dpo"] = "dpo"
    """Make chosen answers likelier than rejected ones, held near the model as it was."""
    beta: float = Field(0.1, gt=0)
    """How near: the smaller, the further the model may move."""
    variant: Literal["sigmoid", "robust", "hinge"] = "sigmoid"
    """Shape of the loss; robust is unbiased where a share label_smoothing of the rows is wrong."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Share of the rows whose chosen answer is in truth the worse one."""
    average: bool = False
    """Whether log-probabilities are means over the tokens of an answer, not sums."""
    sft_weight: float = Field(0.0, ge=0)
    """Weight of the likelihood of the chosen answer, added so that it does not fall."""
    margin_weight: float = Field(0.0, ge=0)
    """How much of each row's margin the difference must exceed; above 0, rows need margins."""

    @model_validator(mode="after")
    def _smoothing_has_a_meaning(self) -> "Config":
        if self.label_smoothing and self.variant == "hinge":
            raise ValueError("label_smoothing with variant sigmoid or robust, not hinge")
        return self


def encoder(renderer: Renderer, config: Config) -> PairEncoder:
    """Both answers of a row as one example."""
    return PairEncoder(renderer, margins=config.margin_weight > 0)


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The loss summed over pairs, and how many they are."""
    return summed(measure(policy, batch, config))


def measure(policy: Policy, batch: Batch, config: Config) -> dict[str, Tensor]:
    """(P,) of each pair; see `_pairs.told`. The reward is beta times the log-ratio."""
    sides = log_probs(policy, batch)
    ratios = less_reference(sides, batch)
    ratios = ratios.per_token() if config.average else ratios
    rewards = ratios.times(config.beta)
    z_P = rewards.difference_P
    if config.margin_weight:
        z_P = z_P - config.margin_weight * batch.numbers[MARGIN]
    loss_P = _shaped(z_P, config)
    if config.sft_weight:
        loss_P = loss_P + config.sft_weight * imitation(sides)
    return told(loss_P, rewards, sides)


def _shaped(z_P: Tensor, config: Config) -> Tensor:
    if config.variant == "hinge":
        return torch.relu(1 - z_P)
    if config.variant == "sigmoid":
        return logistic(z_P, config.label_smoothing)
    # (1 - e) / (1 - 2 e) and -e / (1 - 2 e): what wrong labels add in the mean is taken off.
    return logistic(z_P, -config.label_smoothing / (1 - 2 * config.label_smoothing))
