"""Proximal policy optimisation: a value head expects the reward, and tokens are judged by surprise.

    r_t = -beta log(pi_old(t) / pi_ref(t)),  and the answer's reward besides at its last token
    d_t = r_t + gamma V_{t+1} - V_t,         V behind the last token is 0
    A_t = sum_l (gamma lambda)^l d_{t+l}     then centred and scaled over all tokens drawn
    L = 1/N sum_t [ -min(rho_t A_t, clip(rho_t, 1 - low, 1 + high) A_t)
                    + c 1/2 max((V - R_t)^2, (V_old + clip(V - V_old, -e, e) - R_t)^2) ]

PPO, arXiv:1707.06347, eq. 7 and 9; advantages by GAE, arXiv:1506.02438, eq. 16, before they are
centred R_t = A_t + V_old; the clipped value loss of OpenAI's code; rewards as in InstructGPT,
arXiv:2203.02155, eq. 2. The value head is a linear layer in fp32 on the states that predict the
tokens, scaled to length 1. It is kept in checkpoints, and left out of what is exported.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from tunesmith.data.example import Batch
from tunesmith.data.rollout import Group, Lesson
from tunesmith.data.template import Renderer
from tunesmith.methods._sampled import Anchored, Asking, penalties, rewards, trainable, whitened
from tunesmith.methods._surrogate import Clip, drift, old
from tunesmith.methods.base import Companion, LossSum
from tunesmith.models.policy import Policy

NEEDS: frozenset[str] = frozenset({"sampler"})


class Config(Anchored):
    """Keys of `method` with `name: ppo`."""

    name: Literal["ppo"] = "ppo"
    """Train on the model's own answers, judged against what a value head expected."""
    clip: tuple[float, float] = (0.2, 0.2)
    """How far a ratio may lead below and above 1."""
    discount: float = Field(1.0, gt=0, le=1)
    """Gamma: what a reward is worth one token earlier."""
    trace: float = Field(0.95, ge=0, le=1)
    """Lambda of GAE: 1 trusts the rewards alone, 0 the value head."""
    value_weight: float = Field(0.1, gt=0)
    """Weight of the loss of the value head."""
    value_clip: float = Field(0.2, gt=0)
    """How far a value may move from what it was when the answers were drawn."""
    value_rate: float = Field(10.0, gt=0)
    """Factor on the learning rate for the value head, which starts at 0."""

    @property
    def judged_first(self) -> bool:
        """Always: advantages are made of values."""
        return True


def encoder(renderer: Renderer, config: Config) -> Asking:
    """What turns a row into a prompt and its reference."""
    return Asking(renderer)


class ValueHead(nn.Module):
    """Expects a reward of each state: (N, D) float32 to (N, 1); 0 at the start.

    States are scaled to length 1: a step of Adam moves each weight by its rate, and so a value by
    that times the sum over a state, which would be hundreds in a wide model.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, width))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, states_ND: Tensor) -> Tensor:
        """The values."""
        return F.linear(F.normalize(states_ND, dim=-1), self.weight, self.bias)


def companion(width: int, config: Config) -> Companion:
    """The value head."""
    return Companion(ValueHead(width), config.value_rate)


def lessons(groups: Sequence[Group], config: Config) -> list[Lesson]:
    """Advantages and returns of each token, from what the value head expected of it."""
    advantages = [gae(group, config) for group in groups]
    returns = [
        advantage + group.by_token["values"]
        for group, advantage in zip(groups, advantages, strict=True)
    ]
    return [
        Lesson(
            trainable(group, config),
            by_token={
                "advantage": advantage.astype(np.float32),
                "return": expected.astype(np.float32),
            },
        )
        for group, advantage, expected in zip(groups, whitened(advantages), returns, strict=True)
    ]


def gae(group: Group, config: Config) -> NDArray[np.float64]:
    """(N,) advantages of the tokens of a group, not centred."""
    cuts = np.cumsum(group.lengths)[:-1]
    lost = np.split(penalties(group, config.beta or 0.0), cuts)
    values = np.split(group.by_token["values"].astype(np.float64), cuts)
    found = []
    for reward, cost, value in zip(rewards(group, config), lost, values, strict=True):
        gained = -cost
        gained[-1] += reward
        surprise = gained + config.discount * np.append(value[1:], 0.0) - value
        found.append(_discounted(surprise, config.discount * config.trace))
    return np.concatenate(found)


def _discounted(values: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """The sum of all later values at each place, each step later worth `factor` as much."""
    total, found = 0.0, np.empty_like(values)
    for place in range(len(values) - 1, -1, -1):
        total = values[place] + factor * total
        found[place] = total
    return found


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The clipped objective and the loss of the value head, and how many tokens there are."""
    nll_N, states_ND = policy.nll_and_states(batch, config.temperature)
    value_N = policy.companion(states_ND)[:, 0]
    loss_N, outside_N = Clip(*config.clip).loss(
        -nll_N - old(batch, -nll_N), batch.numbers["advantage"]
    )
    error_N = value_error(value_N, batch, config.value_clip)
    figures = {
        "clipped": (outside_N.sum(), len(loss_N)),
        "value_error": (error_N.detach().sum(), len(loss_N)),
        **drift(batch, -nll_N),
    }
    return LossSum((loss_N + config.value_weight * error_N).sum(), len(loss_N), figures)


def value_error(value_N: Tensor, batch: Batch, limit: float) -> Tensor:
    """(N,) half the squared distance to the return, the larger one with and without the clip."""
    before_N, return_N = batch.numbers["values"], batch.numbers["return"]
    near_N = before_N + (value_N - before_N).clamp(-limit, limit)
    return torch.maximum((value_N - return_N).square(), (near_N - return_N).square()) / 2
