"""How far a teacher's distribution over tokens and a student's are apart.

    forward:  D = KL(p || q)                     Hinton et al., arXiv:1503.02531, section 2
    reverse:  D = KL(q || p)                     MiniLLM, arXiv:2306.08543, eq. 1
    jsd:      D = b KL(p || m) + (1 - b) KL(q || m),   m = b p + (1 - b) q
                                                 GKD, arXiv:2306.13649, eq. 1

p is the teacher's, q the student's. Of p the most likely tokens are known; what is left of its
probability counts as one further token, for q likewise. With the whole vocabulary that is exact.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from tunesmith.config.section import Section
from tunesmith.data.example import Batch
from tunesmith.models.policy import Policy

LEAST_REST = 1e-8
"""The smallest probability left to all other tokens: fp32 knows no finer difference from 1."""


class Taught(Section):
    """Keys of every method with a teacher."""

    teacher: str
    """The model to learn from, as `model.base` names one; it must have the same tokenizer."""
    divergence: Literal["forward", "reverse", "jsd"] = "forward"
    """forward covers all that the teacher would say, reverse seeks what it would say most."""
    mix: float = Field(0.5, gt=0, lt=1)
    """For jsd: the teacher's share b of the mixture."""
    top_k: int = Field(64, ge=1)
    """Tokens of the teacher's distribution that are kept in each place, 8 bytes each; at most its
    vocabulary."""


def apart(policy: Policy, batch: Batch, config: Taught, temperature: float) -> Tensor:
    """(N,) in nats: D at each trained token, from the numbers that a teacher left in the batch."""
    ids_NK = batch.numbers["teacher_ids"].long()
    q_NK = policy.log_probs_at(batch, ids_NK, temperature)
    return divergence(with_rest(batch.numbers["teacher_log_probs"]), with_rest(q_NK), config)


def with_rest(log_p_NK: Tensor) -> Tensor:
    """(N, K + 1): the same with the log-probability of all other tokens behind."""
    rest_N1 = (1 - log_p_NK.exp().sum(-1, keepdim=True)).clamp(min=LEAST_REST)
    return torch.cat([log_p_NK, rest_N1.log()], -1)


def divergence(log_p_NK: Tensor, log_q_NK: Tensor, config: Taught) -> Tensor:
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
