"""What models think of answers that were drawn: log-probabilities as training computes them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith.data.collate import collate
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
    """

    policy: Policy
    start: Start | None
    config: Sampled
    layout: Layout
    pad_id: int

    def __call__(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with `old`, `values` and `reference`, as far as the method wants them."""
        found: list[dict[str, NDArray[np.float32]]] = [dict(g.by_token) for g in groups]
        if self.config.judged_first:
            self._ask(groups, found, nullcontext(), {"old": "log_probs", "values": "values"})
        if self.start is not None:
            self._ask(groups, found, self.start(), {"reference": "log_probs"})
        return [replace(g, by_token=each) for g, each in zip(groups, found, strict=True)]

    @torch.no_grad()
    def _ask(
        self,
        groups: Sequence[Group],
        found: list[dict[str, NDArray[np.float32]]],
        model: AbstractContextManager[Any],
        names: dict[str, str],
    ) -> None:
        """Write what the model thinks of all tokens into `found`, under the keys of `names`."""
        examples = [example_of(group, whole(group)) for group in groups]
        lengths = np.array([laid_out(group, self.layout.packed) for group in groups])
        with resting(self.policy.model), model:
            for places in self.layout.passes(lengths):
                batch = collate([examples[i] for i in places], self.layout.packed, self.pad_id)
                thought = self._thought(batch.to(self.policy.device))
                ends = np.cumsum([int(groups[i].lengths.sum()) for i in places])[:-1]
                for name, what in names.items():
                    if what in thought:
                        for i, part in zip(places, np.split(thought[what], ends), strict=True):
                            found[i][name] = part

    def _thought(self, batch: Any) -> dict[str, NDArray[np.float32]]:
        temperature = self.config.temperature
        if self.policy.companion is None:
            return {"log_probs": _plain(-self.policy.token_nll(batch, temperature))}
        nll, states = self.policy.nll_and_states(batch, temperature)
        values = self.policy.companion(states)[:, 0]
        return {"log_probs": _plain(-nll), "values": _plain(values)}


def laid_out(group: Group, packed: bool) -> int:
    """Tokens that a group takes in a pass: the prompt once where it is packed, else padded."""
    if packed:
        return len(group.prompt) + int(group.lengths.sum())
    return len(group) * (len(group.prompt) + int(group.lengths.max()))


def _plain(values: torch.Tensor) -> NDArray[np.float32]:
    return values.float().cpu().numpy()
