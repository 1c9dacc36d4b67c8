"""Group relative policy optimisation: several answers to a prompt, each judged against the others.

    A_i = (r_i - mean(r)) / (std(r) + 1e-4)          over the answers to one prompt
    L = mean_i 1/|y_i| sum_t [ -min(rho_t A_i, clip(rho_t, 1 - low, 1 + high) A_i) + beta KL_t ]
    KL_t = pi_ref / pi - log(pi_ref / pi) - 1

DeepSeekMath, arXiv:2402.03300, eq. 3 and 4; the deviation is that of a sample, as in TRL. What
later papers changed are keys:

DAPO, arXiv:2503.14476: `clip: [0.2, 0.28]` (clip-higher), `average: tokens` (all tokens of a step
weigh the same), `rounds` (dynamic sampling), `cut` (overlong answers). Dr. GRPO, arXiv:2503.20783:
`scale: none` and `average: constant` (an answer's sum is divided by max_new_tokens whatever its
length is). GSPO, arXiv:2507.18071, eq. 5 and 7: `importance: answer`, where rho is

    s_i = exp( 1/|y_i| sum_t log rho_t )

Legend: N trained tokens of a batch, R its answers.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tunesmith.data.example import Batch
from tunesmith.data.rollout import Group, Lesson
from tunesmith.data.template import Renderer
from tunesmith.methods._sampled import Anchored, Asking, rewards, trainable
from tunesmith.methods._surrogate import Clip, Estimator, counts, drift, kl, means, old, spread
from tunesmith.methods.base import LossSum
from tunesmith.models.policy import Policy

NEEDS: frozenset[str] = frozenset({"sampler"})
LEAST_DEVIATION = 1e-4
"""Added to the deviation of a group, as TRL does."""


class Config(Anchored):
    """Keys of `method` with `name: grpo`."""

    name: Literal["grpo"] = "grpo"
    """Train on the model's own answers, each judged against the others to its prompt."""
    num_answers: int = Field(8, ge=2)
    """Answers drawn to each prompt."""
    clip: tuple[float, float] = (0.2, 0.2)
    """How far a ratio may lead below and above 1."""
    average: Literal["answers", "tokens", "constant"] = "answers"
    """The mean is over answers of their token means; over all tokens; or over answers of their sums
    divided by max_new_tokens."""
    scale: Literal["group", "none"] = "group"
    """Whether advantages are divided by the deviation of their group."""
    importance: Literal["token", "answer"] = "token"
    """Whether a ratio is that of a token, or the geometric mean over its answer."""
    kl_estimator: Estimator = "k3"
    """How the divergence is estimated at a token. The gradient of k2 is that of the divergence;
    that of k1 is 0 on average, so it only adds noise here."""
    rounds: int = Field(0, ge=0)
    """0 trains on groups of equal rewards too: they teach nothing, but count. From 1 on they are
    left out, and not counted; other prompts are asked in their stead, in as many rounds in all."""

    @property
    def most_rounds(self) -> int:
        """Times that prompts are asked for one set of answers."""
        return max(self.rounds, 1)


def encoder(renderer: Renderer, config: Config) -> Asking:
    """What turns a row into a prompt and its reference."""
    return Asking(renderer)


def lessons(groups: Sequence[Group], config: Config) -> list[Lesson]:
    """The advantage of each answer, from the rewards of its group alone."""
    return [_lesson(group, config) for group in groups]


def _lesson(group: Group, config: Config) -> Lesson:
    given = rewards(group, config)
    advantage = given - given.mean()
    if config.scale == "group":
        advantage = advantage / (given.std(ddof=1) + LEAST_DEVIATION)
    trained = trainable(group, config)
    if config.rounds and np.ptp(given) == 0:
        trained = np.zeros_like(trained)
    return Lesson(trained, {"advantage": advantage.astype(np.float32)})


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The clipped objective, weighted so that the loop's division gives the mean asked for."""
    log_probs_N = -policy.token_nll(batch, config.temperature)
    ratio_N = log_probs_N - old(batch, log_probs_N)
    if config.importance == "answer":
        ratio_N = spread(means(ratio_N, batch), batch)
    advantage_N = spread(batch.numbers["advantage"], batch)
    loss_N, outside_N = Clip(*config.clip).loss(ratio_N, advantage_N)
    if config.beta:
        reference_N = batch.numbers["reference"]
        loss_N = loss_N + config.beta * kl(log_probs_N, reference_N, config.kl_estimator)
    weights_N, count = _weights(batch, config, loss_N.device)
    figures = {"clipped": (outside_N.sum(), len(loss_N)), **drift(batch, log_probs_N)}
    return LossSum((loss_N * weights_N).sum(), count, figures)


def _weights(batch: Batch, config: Config, device: torch.device) -> tuple[Tensor, int]:
    """(N,) what each token counts, and what the loop divides by."""
    if config.average == "tokens":
        return torch.ones(batch.num_trained, device=device), batch.num_trained
    lengths_R = counts(batch, device).float()
    if config.average == "constant":
        lengths_R = torch.full_like(lengths_R, config.max_new_tokens)
    return spread(1 / lengths_R, batch), len(batch.targets_per_row)
