"""Rows as they will be at worst once they are answered: what a plan can know of a rollout."""

from math import log
from types import ModuleType

import numpy as np

from tunesmith.data.example import Example
from tunesmith.data.prepared import Prepared
from tunesmith.data.rollout import Group
from tunesmith.engine.rollouts.examples import example_of
from tunesmith.methods._sampled import Sampled


class Imagined:
    """Stands for examples whose every answer is as long as it may be.

    Args:
        prepared: The rows; their own answers are left aside.
        method: The method file.
        config: Its keys.
        packed: Whether the answers to a prompt share it.
    """

    def __init__(
        self, prepared: Prepared, method: ModuleType, config: Sampled, packed: bool
    ) -> None:
        self._prepared, self._method, self._config = prepared, method, config
        number, longest = config.num_answers, config.max_new_tokens
        prompts = prepared.prompt_tokens.astype(np.int64)
        self.lengths = prompts + number * longest if packed else number * (prompts + longest)
        self.place = prepared.place

    def __len__(self) -> int:
        return len(self._prepared)

    def __getitem__(self, index: int) -> Example:
        """The prompt of the example with answers that say nothing, rewarded by turns."""
        group = self._answered(self.asked(index))
        return example_of(group, self._method.lessons([group], self._config)[0])

    def asked(self, index: int) -> Group:
        """The group of an example, before it is answered."""
        source, row = self.place(index)
        prompt = self._prepared[index].input_ids[: self._prepared.prompt_tokens[index]]
        nothing = np.empty(0, dtype=np.float32)
        return Group(index, source, row, prompt, (), nothing.astype(bool), nothing)

    def _answered(self, group: Group) -> Group:
        number, longest = self._config.num_answers, self._config.max_new_tokens
        names = ["sampler"]
        if self._config.judged_first:
            names += ["old", "values"]
        if self._config.compared:
            names += ["reference"]
        by_token = {name: np.zeros(number * longest, dtype=np.float32) for name in names}
        return Group(
            example=group.example,
            source=group.source,
            row=group.row,
            prompt=group.prompt,
            answers=(np.repeat(group.prompt[:1], longest),) * number,
            stopped=np.ones(number, dtype=bool),
            rewards=(1.0 - np.arange(number) % 2).astype(np.float32),
            by_token=by_token | _taught(number * longest, self._config.teacher_tokens),
        )


def _taught(count: int, kept: int) -> dict[str, np.ndarray]:
    """What a teacher says in so many places, of whose tokens so many are kept."""
    if not kept:
        return {}
    shape = (count, kept)
    ids = np.broadcast_to(np.arange(kept, dtype=np.float32), shape)
    return {"teacher_ids": ids, "teacher_log_probs": np.full(shape, -log(2 * kept), np.float32)}
