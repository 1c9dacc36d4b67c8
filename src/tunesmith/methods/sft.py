"""Supervised fine-tuning: likelihood of the trained tokens, given what stands before them.

    L = - sum_t m_t log p(x_t | x_<t)  /  sum_t m_t

m_t is 1 on the tokens that the recipe's `data.train_on` trains, 0 elsewhere. InstructGPT,
arXiv:2203.02155, section 3.5, with the loss on the answer alone.
"""

from typing import Literal

from tunesmith.config.section import Section
from tunesmith.data.example import Batch
from tunesmith.data.template import Renderer
from tunesmith.methods.base import LossSum
from tunesmith.models.policy import Policy

NEEDS: frozenset[str] = frozenset()


class Config(Section):
    """Keys of `method` with `name: sft`."""

    name: Literal["sft"] = "sft"
    """Train on the answers."""


def encoder(renderer: Renderer, config: Config) -> Renderer:
    """What turns a row into tokens and mask: for sft the renderer, as it is."""
    return renderer


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """Cross entropy summed over the trained tokens, in nats, and how many they are."""
    return LossSum(policy.loss_sum(batch), batch.num_trained)
