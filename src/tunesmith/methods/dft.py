"""Dynamic fine-tuning: supervised, each token's loss times the probability that it has by now.

    L = - sum_t w_t sg(p(x_t | x_<t)) log p(x_t | x_<t)  /  sum_t w_t

sg takes no gradient, so the gradient is -sum_t w_t grad p(x_t): that of the expected reward 1 for
the token of the data, without the factor 1/p that lets improbable tokens of supervised fine-tuning
lead. Wu et al. 2025, arXiv:2508.05629, equation 9. w_t as for sft.
"""

from typing import Literal

import torch

from tunesmith.config.section import Section
from tunesmith.data.example import Batch
from tunesmith.data.prepared import WEIGHTS
from tunesmith.data.template import Renderer
from tunesmith.methods.base import LossSum
from tunesmith.models.policy import Policy

NEEDS: frozenset[str] = frozenset()


class Config(Section):
    """Keys of `method` with `name: dft`."""

    name: Literal["dft"] = "dft"
    """Train on the answers, most on what the model finds likely already."""


def encoder(renderer: Renderer, config: Config) -> Renderer:
    """What turns a row into tokens and mask: as for sft."""
    return renderer.weighing()


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The losses of the trained tokens times their probabilities, and how much they count."""
    nll = policy.token_nll(batch)
    scaled = nll * torch.exp(-nll.detach())
    weights = batch.numbers.get(WEIGHTS)
    if weights is None:
        return LossSum(scaled.sum(), batch.num_trained, each=scaled.detach())
    return LossSum(scaled @ weights, float(weights.sum()), each=scaled.detach())
