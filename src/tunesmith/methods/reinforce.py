"""REINFORCE with a baseline, each token an action; with the defaults REINFORCE++.

    R_t = r - beta sum_{s >= t} log(pi_old(s) / pi_ref(s))        of an answer with reward r
    A_t = (R_t - b - mean) / std                                 mean and std over all tokens drawn
    L = 1/N sum_t -min(rho_t A_t, clip(rho_t, 1 - low, 1 + high) A_t)

Williams 1992, doi:10.1007/BF00992696; REINFORCE++, arXiv:2501.03262, eq. 4 to 7, where b is 0, or,
with several answers to a prompt, the mean reward of its group.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.example import Batch
from tunesmith.data.rollout import Group, Lesson
from tunesmith.data.template import Renderer
from tunesmith.methods._sampled import Asking, Penalised, penalties, rewards, trainable, whitened
from tunesmith.methods._surrogate import Clip, drift, old
from tunesmith.methods.base import LossSum
from tunesmith.models.policy import Policy

NEEDS: frozenset[str] = frozenset({"sampler"})


class Config(Penalised):
    """Keys of `method` with `name: reinforce`."""

    name: Literal["reinforce"] = "reinforce"
    """Train on the model's own answers by their rewards above a baseline."""
    clip: tuple[float, float] = (0.2, 0.2)
    """How far a ratio may lead below and above 1."""
    baseline: Literal["none", "rollout", "group"] = "none"
    """What rewards are compared with: 0, the mean of all answers drawn, or of those to a prompt."""
    normalize: bool = True
    """Whether advantages are centred and divided by their deviation over all tokens drawn."""


def encoder(renderer: Renderer, config: Config) -> Asking:
    """What turns a row into a prompt and its reference."""
    return Asking(renderer)


def lessons(groups: Sequence[Group], config: Config) -> list[Lesson]:
    """The advantage of each token, normalised over all groups."""
    given = [rewards(group, config) for group in groups]
    mean = np.concatenate(given).mean()
    baseline = {"none": lambda r: 0.0, "rollout": lambda r: mean, "group": lambda r: r.mean()}
    advantages = [
        _returns(group, r, config.beta or 0.0) - baseline[config.baseline](r)
        for group, r in zip(groups, given, strict=True)
    ]
    if config.normalize:
        advantages = whitened(advantages)
    return [
        Lesson(trainable(group, config), by_token={"advantage": each.astype(np.float32)})
        for group, each in zip(groups, advantages, strict=True)
    ]


def _returns(group: Group, given: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """(N,) the reward of each token's answer, less all that the tokens from it on lose."""
    lost = np.split(penalties(group, beta), np.cumsum(group.lengths)[:-1])
    return np.concatenate(
        [reward - each[::-1].cumsum()[::-1] for reward, each in zip(given, lost, strict=True)]
    )


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The clipped objective of single tokens, and how many they are."""
    log_probs_N = -policy.token_nll(batch, config.temperature)
    ratio_N = log_probs_N - old(batch, log_probs_N)
    loss_N, outside_N = Clip(*config.clip).loss(ratio_N, batch.numbers["advantage"])
    figures = {"clipped": (outside_N.sum(), len(loss_N)), **drift(batch, log_probs_N)}
    return LossSum(loss_N.sum(), len(loss_N), figures)
