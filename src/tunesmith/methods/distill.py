"""Distillation: the student answers each token as a teacher would, over the whole distribution.

    L = sum_t m_t T^2 D(p_t || q_t)  /  sum_t m_t,    p_t teacher, q_t student, at temperature T
    forward:  D = KL(p || q)                     Hinton et al., arXiv:1503.02531, section 2
    reverse:  D = KL(q || p)                     MiniLLM, arXiv:2306.08543, eq. 1
    jsd:      D = b KL(p || m) + (1 - b) KL(q || m),   m = b p + (1 - b) q
                                                 GKD, arXiv:2306.13649, eq. 1

m_t is 1 on the trained tokens of the rows. The teacher is asked once, before step 1; of its answers
the `top_k` most likely tokens are kept on the disk, and what is left of its probability counts as
one further token, for the student likewise. With `top_k` the size of the vocabulary that is exact.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from tunesmith.config.section import Section
from tunesmith.data.example import Batch
from tunesmith.data.template import Renderer
from tunesmith.methods.base import LossSum
from tunesmith.models.policy import Policy

NEEDS = frozenset({"teacher"})

LEAST_REST = 1e-8
"""The smallest probability left to all other tokens: fp32 knows no finer difference from 1."""


class Config(Section):
    """Keys of `method` with `name: distill`."""

    name: Literal["distill"] = "distill"
    """Train on what a teacher thinks of each token."""
    teacher: str
    """The model to learn from, as `model.base` names one; it must have the same tokenizer."""
    divergence: Literal["forward", "reverse", "jsd"] = "forward"
    """forward covers all that the teacher would say, reverse seeks what it would say most."""
    mix: float = Field(0.5, gt=0, lt=1)
    """For jsd: the teacher's share b of the mixture."""
    temperature: float = Field(1.0, gt=0)
    """Logits of both are divided by it."""
    top_k: int = Field(64, ge=1)
    """Tokens of the teacher's distribution that are kept in each place, 8 bytes each."""
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
    ids_NK = batch.numbers["teacher_ids"].long()
    p_NK = batch.numbers["teacher_log_probs"]
    q_NK = policy.log_probs_at(batch, ids_NK, config.temperature)
    each_N = divergence(with_rest(p_NK), with_rest(q_NK), config)
    total = config.temperature**2 * each_N.sum()
    if config.sft:
        total = (1 - config.sft) * total + config.sft * policy.loss_sum(batch)
    count = batch.num_trained
    kept = p_NK.exp().sum()
    figures = {"divergence": (each_N.detach().sum(), count), "teacher_kept": (kept, count)}
    return LossSum(total, count, figures)


def with_rest(log_p_NK: Tensor) -> Tensor:
    """(N, K + 1): the same with the log-probability of all other tokens behind."""
    rest_N1 = (1 - log_p_NK.exp().sum(-1, keepdim=True)).clamp(min=LEAST_REST)
    return torch.cat([log_p_NK, rest_N1.log()], -1)


def divergence(log_p_NK: Tensor, log_q_NK: Tensor, config: Config) -> Tensor:
    """(N,) in nats, of two distributions given as log-probabilities: teacher and student."""
    if config.divergence == "forward":
        return _kl(log_p_NK, log_q_NK)
    if config.divergence == "reverse":
        return _kl(log_q_NK, log_p_NK)
    b = torch.tensor(config.mix)
    log_m_NK = torch.logaddexp(log_p_NK + b.log(), log_q_NK + (1 - b).log())
    return b * _kl(log_p_NK, log_m_NK) + (1 - b) * _kl(log_q_NK, log_m_NK)


def _kl(log_a_NK: Tensor, log_b_NK: Tensor) -> Tensor:
    """KL(a || b), (N,)."""
    return (log_a_NK.exp() * (log_a_NK - log_b_NK)).sum(-1)
