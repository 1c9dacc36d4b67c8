"""REINFORCE leave-one-out: an answer is judged against the mean of the others to its prompt.

    A_i = r_i - 1/(G - 1) sum_{j != i} r_j
    L = mean_i -min(rho_i A_i, clip(rho_i, 1 - low, 1 + high) A_i),   rho_i = pi(y_i) / pi_old(y_i)

arXiv:2402.14740, section 3.2: a whole answer is one action. At the first update rho is 1, and the
gradient that of -A_i log pi(y_i). With beta the reward is r_i - beta log(pi_old(y_i) / pi_ref(y_i))
(its eq. 1).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from tunesmith.data.example import Batch
from tunesmith.data.rollout import Group, Lesson
from tunesmith.data.template import Renderer
from tunesmith.methods._sampled import Asking, Penalised, by_answer, penalties, rewards, trainable
from tunesmith.methods._surrogate import Clip, drift, old, sums
from tunesmith.methods.base import LossSum
from tunesmith.models.policy import Policy

NEEDS: frozenset[str] = frozenset({"sampler"})


class Config(Penalised):
    """Keys of `method` with `name: rloo`."""

    name: Literal["rloo"] = "rloo"
    """Train on the model's own answers, each judged against the mean of the others."""
    num_answers: int = Field(4, ge=2)
    """Answers drawn to each prompt."""
    clip: tuple[float, float] = (0.2, 0.2)
    """How far the ratio of an answer may lead below and above 1."""


def encoder(renderer: Renderer, config: Config) -> Asking:
    """What turns a row into a prompt and its reference."""
    return Asking(renderer)


def lessons(groups: Sequence[Group], config: Config) -> list[Lesson]:
    """The advantage of each answer over the mean of the others."""
    return [_lesson(group, config) for group in groups]


def _lesson(group: Group, config: Config) -> Lesson:
    lost = by_answer(penalties(group, config.beta or 0.0), group.lengths)
    given = rewards(group, config) - lost
    others = (given.sum() - given) / (len(given) - 1)
    return Lesson(trainable(group, config), {"advantage": (given - others).astype(np.float32)})


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The clipped objective of whole answers, and how many they are."""
    log_probs_N = -policy.token_nll(batch, config.temperature)
    ratio_R = sums(log_probs_N - old(batch, log_probs_N), batch)
    loss_R, outside_R = Clip(*config.clip).loss(ratio_R, batch.numbers["advantage"])
    figures = {"clipped": (outside_R.sum(), len(loss_R)), **drift(batch, log_probs_N)}
    return LossSum(loss_R.sum(), len(loss_R), figures)
