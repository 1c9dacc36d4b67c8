"""Distillation: the student answers each token as a teacher would, over the whole distribution.

    L = sum_t m_t T^2 D(p_t || q_t)  /  sum_t m_t,    p_t teacher, q_t student, at temperature T

Hinton et al., arXiv:1503.02531, section 2; the divergences D stand in `_divergence.py`. m_t is 1 on
the trained tokens of the rows. The teacher is asked once, before step 1, and its `top_k` most
likely tokens are kept on the disk. `gkd` is the same on answers that the student draws.
"""

from typing import Literal

from pydantic import Field

from tunesmith.data.example import Batch
from tunesmith.data.template import Renderer
from tunesmith.methods._divergence import Taught, apart
from tunesmith.methods.base import LossSum
from tunesmith.models.policy import Policy

NEEDS = frozenset({"teacher"})


class Config(Taught):
    """Keys of `method` with `name: distill`."""

    name: Literal["distill"] = "distill"
    """Train on what a teacher thinks of each token."""
    temperature: float = Field(1.0, gt=0)
    """Logits of both are divided by it."""
    sft: float = Field(0.0, ge=0, le=1)
    """Share of the plain loss of the rows' own tokens in the sum; the rest is the divergence."""


def encoder(renderer: Renderer, config: Config) -> Renderer:
    """Rows become tokens and mask as for sft."""
    return renderer


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The divergence summed over the trained tokens, in nats, and how many they are.

    Figures: `divergence` without T^2, and `teacher_kept`, the share of the teacher's probability
    that its kept tokens have.
    """
    each_N = apart(policy, batch, config, config.temperature)
    total = config.temperature**2 * each_N.sum()
    if config.sft:
        total = (1 - config.sft) * total + config.sft * policy.loss_sum(batch)
    count = batch.num_trained
    kept = batch.numbers["teacher_log_probs"].exp().sum()
    figures = {"divergence": (each_N.detach().sum(), count), "teacher_kept": (kept, count)}
    return LossSum(total, count, figures)
