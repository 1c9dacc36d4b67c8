"""Rejection sampling: the best of several answers, by the graders, is trained on as sft does.

    y* = the best of y_1 ... y_n ~ pi(. | x) by r(x, y),  if r(x, y*) >= threshold
    L = - sum_t log p(y*_t | x, y*_<t)  /  number of tokens of all y*

RAFT, arXiv:2304.06767, algorithm 1; STaR, arXiv:2203.14465, with a grader that says right or wrong.
Prompts without such an answer are left out; `passed` tells the share of the others.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tunesmith.data.example import Batch
from tunesmith.data.rollout import Group, Lesson
from tunesmith.data.template import Renderer
from tunesmith.methods._sampled import Asking, Sampled, rewards, trainable
from tunesmith.methods.base import LossSum
from tunesmith.models.policy import Policy

NEEDS: frozenset[str] = frozenset({"sampler"})


class Config(Sampled):
    """Keys of `method` with `name: rejection`."""

    name: Literal["rejection"] = "rejection"
    """Train on the best of the model's own answers."""
    num_answers: int = Field(8, ge=1)
    """Answers drawn to each prompt."""
    keep: int = Field(1, ge=1)
    """Most answers kept of a prompt, the best ones; equal answers are kept once."""
    threshold: float | None = 0.5
    """Reward that a kept answer has at least; null keeps the best, whatever they got."""
    rounds: int = Field(1, ge=1)
    """Above 1, other prompts are asked where none was kept, in as many rounds in all."""

    @property
    def most_rounds(self) -> int:
        """Times that prompts are asked for one set of answers."""
        return self.rounds


def encoder(renderer: Renderer, config: Config) -> Asking:
    """What turns a row into a prompt and its reference."""
    return Asking(renderer)


def lessons(groups: Sequence[Group], config: Config) -> list[Lesson]:
    """Which answers are kept."""
    kept = [best(group, config) for group in groups]
    return [Lesson(each, figures={"passed": (float(each.any()), 1.0)}) for each in kept]


def best(group: Group, config: Config) -> NDArray[np.bool_]:
    """(G,) bool: the answers to train on; of answers with equal rewards the first."""
    given, allowed = rewards(group, config), trainable(group, config)
    if config.threshold is not None:
        allowed = allowed & (given >= config.threshold)
    kept, seen = np.zeros(len(group), dtype=bool), set[bytes]()
    for number in np.argsort(-given, kind="stable"):
        same = group.answers[number].tobytes()
        if allowed[number] and same not in seen and len(seen) < config.keep:
            kept[number] = True
            seen.add(same)
    return kept


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """Cross entropy summed over the tokens of the kept answers, and how many they are."""
    return LossSum(policy.loss_sum(batch), batch.num_trained)
