"""What models think of answers that were drawn: log-probabilities as training computes them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.data.collate import collate
from tunesmith.data.example import Batch
from tunesmith.data.planner import Layout
from tunesmith.data.rollout import Group
from tunesmith.engine.rollouts.examples import example_of, whole
from tunesmith.engine.rollouts.start import Start
from tunesmith.methods._sampled import Sampled
from tunesmith.models.policy import Policy
from tunesmith.models.resting import resting


@dataclass(frozen=True)
class Judge:
    """Adds numbers by token to groups.

    Attributes:
        policy: The model that is trained.
        start: The same before step 1; None where nobody asks for it.
        config: Of the method.
        layout: Of the passes of training.
        pad_id: For batches that are padded.
        teacher: A model that is not trained, for its likeliest tokens; None where nobody asks.
    """

    policy: Policy
    start: Start | None
    config: Sampled
    layout: Layout
    pad_id: int
    teacher: Policy | None = None

    def __call__(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with `old`, `values`, `reference`, `teacher_*`, as the method wants them."""
        found: list[dict[str, NDArray[np.float32]]] = [dict(g.by_token) for g in groups]
        if self.config.judged_first:
            self._ask(groups, found, self.policy, nullcontext(), self._now)
        if self.start is not None:
            self._ask(groups, found, self.policy, self.start(), self._before)
        if self.teacher is not None:
            self._ask(groups, found, self.teacher, nullcontext(), self._taught)
        return [replace(g, by_token=each) for g, each in zip(groups, found, strict=True)]

    @torch.no_grad()
    def _ask(
        self,
        groups: Sequence[Group],
        found: list[dict[str, NDArray[np.float32]]],
        policy: Policy,
        state: AbstractContextManager[Any],
        think: Callable[[Batch], dict[str, Tensor]],
    ) -> None:
        """Write what a model in some state thinks of all tokens into `found`."""
        examples = [example_of(group, whole(group)) for group in groups]
        lengths = np.array([laid_out(group, self.layout.packed) for group in groups])
        with resting(policy.model), state:
            for places in self.layout.passes(lengths):
                batch = collate([examples[i] for i in places], self.layout.packed, self.pad_id)
                thought = think(batch.to(policy.device))
                ends = np.cumsum([int(groups[i].lengths.sum()) for i in places])[:-1]
                for name, values in thought.items():
                    parts = np.split(values.float().cpu().numpy(), ends)
                    for i, part in zip(places, parts, strict=True):
                        found[i][name] = part

    def _now(self, batch: Batch) -> dict[str, Tensor]:
        temperature = self.config.temperature
        if self.policy.companion is None:
            return {"old": -self.policy.token_nll(batch, temperature)}
        nll, states = self.policy.nll_and_states(batch, temperature)
        return {"old": -nll, "values": self.policy.companion(states)[:, 0]}

    def _before(self, batch: Batch) -> dict[str, Tensor]:
        return {"reference": -self.policy.token_nll(batch, self.config.temperature)}

    def _taught(self, batch: Batch) -> dict[str, Tensor]:
        """Ids as float32, which is exact below 2^24."""
        number, temperature = self.config.teacher_tokens, self.config.temperature
        ids, log_probs = self.teacher.most_likely(batch, number, temperature)
        return {"teacher_ids": ids, "teacher_log_probs": log_probs}


def laid_out(group: Group, packed: bool) -> int:
    """Tokens that a group takes in a pass: the prompt once where it is packed, else padded."""
    if packed:
        return len(group.prompt) + int(group.lengths.sum())
    return len(group) * (len(group.prompt) + int(group.lengths.max()))
