"""Supervised fine-tuning: likelihood of the trained tokens, given what stands before them.

    L = - sum_t w_t log p(x_t | x_<t)  /  sum_t w_t

w_t is 1 on the tokens that the recipe's `data.train_on` trains, 0 elsewhere; a message that has a
`weight` has that instead of 1. InstructGPT, arXiv:2203.02155, section 3.5, with the loss on the
answer alone. With `label_smoothing` s, log p(x_t) becomes (1 - s) log p(x_t) + s mean_v log p(v):
arXiv:1512.00567, section 7. The held-out loss has neither weights nor smoothing.
"""

from typing import Literal

from pydantic import Field

from tunesmith.config.section import Section
from tunesmith.data.example import Batch
from tunesmith.data.prepared import WEIGHTS
from tunesmith.data.template import Renderer
from tunesmith.methods.base import LossSum
from tunesmith.models.policy import Policy

NEEDS: frozenset[str] = frozenset()


class Config(Section):
    """Keys of `method` with `name: sft`."""

    name: Literal["sft"] = "sft"
    """Train on the answers."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of each target that is spread over the whole vocabulary."""


def encoder(renderer: Renderer, config: Config) -> Renderer:
    """What turns a row into tokens and mask: for sft the renderer, weights of messages included."""
    return renderer.weighing()


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """Cross entropy summed over the trained tokens, in nats, and how much they count."""
    weights = batch.numbers.get(WEIGHTS)
    total, each = policy.losses(batch, weights, config.label_smoothing)
    count = batch.num_trained if weights is None else float(weights.sum())
    return LossSum(total, count, each=each)
