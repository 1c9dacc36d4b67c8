"""Serves steps whose answers are drawn with the weights of the moment.

A rollout is the prompts of one step of the plan, answered; `updates * minibatches` optimizer steps
are made of it. At the first of them it is drawn and put on the shelf; the others, and a run that is
resumed among them, train on the same answers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from tunesmith.data.collate import collate
from tunesmith.data.example import Batch, Example
from tunesmith.data.loader import Loader
from tunesmith.data.order import Schedule
from tunesmith.data.planner import Layout
from tunesmith.data.prepared import Prepared
from tunesmith.data.rollout import Group, Lesson
from tunesmith.engine.rollouts.examples import gathered
from tunesmith.engine.rollouts.imagined import Imagined
from tunesmith.engine.rollouts.judge import laid_out
from tunesmith.engine.rollouts.shelf import Shelf
from tunesmith.methods._sampled import Sampled

Draw = Callable[[Sequence[Group], tuple[int, int]], list[Group]]
"""Answers the prompts of groups; given also the number of the rollout and of the round, from 0."""


@dataclass(frozen=True, slots=True)
class Way:
    """How rollouts are made into steps.

    Attributes:
        method: The method file.
        config: Its keys.
        seed: Of the run.
        num_steps: Optimizer steps of the run.
    """

    method: ModuleType
    config: Sampled
    seed: int
    num_steps: int


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout that is being trained on.

    Attributes:
        number: From 0.
        groups: All that were drawn.
        examples: Made of them, by group; None for what teaches nothing.
    """

    number: int
    groups: list[Group]
    examples: list[Example | None]


class Rollouts(Loader):
    """A loader whose batches are drawn; what it plans is how they will be at worst.

    Attributes:
        draw: Answers prompts; without it there are only plans.
        shelf: Where rollouts are kept.
        notice: Told, in a sentence, of steps that teach nothing.
    """

    def __init__(
        self, prepared: Prepared, schedule: Schedule, layout: Layout, pad_id: int, way: Way
    ) -> None:
        self._asking = Imagined(prepared, way.method, way.config, layout.packed)
        super().__init__(self._asking, schedule, layout, pad_id)
        self._way, self._per = way, way.config.steps_per_rollout
        self._now: Rollout | None = None
        self.draw: Draw | None = None
        self.shelf: Shelf | None = None
        self.notice: Callable[[str], None] = lambda text: None

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the run."""
        return self._way.num_steps

    def step(self, index: int) -> list[Batch]:
        """The batches of a step, counted from 0; none where its answers teach nothing.

        At the first step of a rollout it is drawn, whatever was before: weights may be others.

        Raises:
            IndexError: There is no such step.
            CheckpointError: The rollout that it goes on with is not on the shelf.
        """
        if not 0 <= index < self.num_steps:
            raise IndexError(f"step {index} of {self.num_steps}")
        number, turn = divmod(index, self._per)
        if turn == 0:
            self._now = self._drawn(number)
        elif self._now is None or self._now.number != number:
            self._now = self._rollout(number, self.shelf.get(number * self._per + 1))
        batches = self._batches(self._now, turn)
        if not batches:
            self.notice(f"step {index + 1} has no answer to learn from, and changes nothing")
        return batches

    def again(self, index: int) -> list[Batch]:
        """The batches of a step that was served before, without what is left out by now."""
        number, turn = divmod(index, self._per)
        first = number * self._per + 1
        if self.shelf is None or not self.shelf.has(first):
            return []
        return self._batches(self._rollout(number, self.shelf.get(first)), turn)

    def examples(self, index: int) -> list[int]:
        """The rows whose answers a step trains on; as planned, where it is not the present one."""
        number, turn = divmod(index, self._per)
        if self._now is not None and self._now.number == number:
            found = np.array([group.example for group in self._now.groups], dtype=np.int64)
        else:
            found = self._schedule.examples(number)
        part = found[self._part(number, turn, len(found))]
        return part[~np.isin(part, self._left_out)].tolist()

    def planned(self, index: int) -> list[int]:
        """The rows that the plan has for the rollout of a step."""
        return self._schedule.examples(index // self._per).tolist()

    def asked(self, example: int) -> Group:
        """A row as a prompt that has no answers yet."""
        return self._asking.asked(example)

    def epoch_after(self, index: int) -> float:
        """How many epochs are begun with the rollout of step `index`, and done with its last."""
        return super().epoch_after(index // self._per)

    def _drawn(self, number: int) -> Rollout:
        """Draw a rollout and put it on the shelf."""
        asked = self._without_left_out(self._schedule.examples(number))
        wanted, groups, taught = len(asked), list[Group](), 0
        for turn in range(self._way.config.most_rounds):
            if not len(asked):
                break
            drawn = self.draw([self.asked(int(i)) for i in asked], (number, turn))
            groups += drawn
            taught += sum(lesson.trained.any() for lesson in self._lessons(drawn))
            asked = self._others(groups, wanted - taught, (number, turn))
        if groups:
            self.shelf.put(number * self._per + 1, groups, self._lessons(groups))
        return self._rollout(number, groups)

    def _others(self, groups: list[Group], number: int, place: tuple[int, int]) -> np.ndarray:
        """So many further rows, in an order of their own for each round of each rollout."""
        every = self._without_left_out(np.arange(len(self._asking)))
        free = every[~np.isin(every, [group.example for group in groups])]
        return free[_shuffled(len(free), (self._way.seed, *place, 1))][:number]

    def _lessons(self, groups: list[Group]) -> list[Lesson]:
        return self._way.method.lessons(groups, self._way.config)

    def _rollout(self, number: int, groups: list[Group]) -> Rollout:
        made = gathered(groups, self._lessons(groups)) if groups else []
        return Rollout(number, groups, made)

    def _batches(self, rollout: Rollout, turn: int) -> list[Batch]:
        """The passes of one turn on a rollout."""
        packed = self._layout.packed
        chosen = [
            i
            for i in self._part(rollout.number, turn, len(rollout.groups))
            if rollout.examples[i] is not None and rollout.groups[i].example not in self._left_out
        ]
        if not chosen:
            return []
        lengths = np.array([laid_out(rollout.groups[i], packed) for i in chosen])
        return [
            collate([rollout.examples[chosen[i]] for i in each], packed, self._pad_id)
            for each in self._layout.passes(lengths)
        ]

    def _part(self, number: int, turn: int, count: int) -> np.ndarray:
        """Which of the groups a turn trains on: each pass deals them out anew."""
        minibatches = self._way.config.minibatches
        if minibatches == 1:
            return np.arange(count)
        again, part = divmod(turn, minibatches)
        order = _shuffled(count, (self._way.seed, number, again, 0))
        return np.sort(np.array_split(order, minibatches)[part])

    def _without_left_out(self, examples: np.ndarray) -> np.ndarray:
        return examples[~np.isin(examples, self._left_out)]


def _shuffled(count: int, key: tuple[int, ...]) -> np.ndarray:
    """A permutation of range(count) that depends on `key` alone."""
    bits = np.random.PCG64(np.random.SeedSequence(key)).random_raw(count)
    return np.argsort(bits, kind="stable")
