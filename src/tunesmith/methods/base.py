"""What every method file defines, and how one is found by its name.

A method file holds, below a docstring with paper and equation:
    Config       a `Section` with `name: Literal["<file name>"]` and the method's own keys
    NEEDS        what must be built for it: some of "reference", "sampler", "reward", "teacher"
    encoder(renderer, config) -> Encoder      what turns a row into tokens and mask
    loss(policy, batch, config) -> LossSum
and, where the loss is not that of the trained tokens one by one:
    measure(policy, batch, config) -> dict    of each held-out example; see `Method.measure`
and, where it has figures of all held-out rows together:
    overall(sums, counts, numbers) -> dict    see `Method.overall`
and, where the loss of a batch depends on the other batches of its step:
    ahead(policy, batch, config) -> Sums      means over the step; see `Method.ahead`
and, where something is trained beside the model:
    companion(width, config) -> Companion     such as a value head; it is `policy.companion`

With "reference" in NEEDS, batches bring `numbers["reference"]`: (R,) the log-probability of the
trained tokens of each sequence under the model as it was before step 1.

With "sampler" in NEEDS, the model draws the answers itself. `Config` is a `_sampled.Sampled`, rows
are prompts, and the file defines besides:
    lessons(groups, config) -> [Lesson, ...]  of all groups that were drawn together, in order
Batches then bring as `numbers` what the lessons name, and by token: `sampler`, and where
`Config.judged_first` says so `old`, with a companion `values` too; where `Config.compared` does,
`reference`. See `data/rollout.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from tunesmith import methods
from tunesmith.config import folder
from tunesmith.config.section import Section
from tunesmith.data.example import Batch
from tunesmith.data.store import Encoder
from tunesmith.data.template import Renderer
from tunesmith.models.policy import Policy

Sums = Mapping[str, tuple[Tensor, int]]
"""Figures by name: the sum of each, () and without gradient, and what to divide it by."""


@dataclass(frozen=True, slots=True)
class LossSum:
    """A loss that has not been averaged. Only the loop divides, once per step.

    Attributes:
        total: () the loss summed over what it counts.
        count: What to divide by: trained tokens, their weights, or pairs.
        figures: What else the step should tell.
        each: The loss of each target (N,) or of each example (U,), without gradient and weights,
            for telling it by source; None where the method has none.
    """

    total: Tensor
    count: float
    figures: Sums = field(default_factory=dict)
    each: Tensor | None = None


def summed(values: Mapping[str, Tensor]) -> LossSum:
    """The loss of a method that judges whole examples, from its `measure`.

    Args:
        values: (U,) of each example, by name: `loss`, and figures that are told with it.
    """
    loss_U = values["loss"]
    figures = {k: (v.detach().sum(), len(v)) for k, v in values.items() if k != "loss"}
    return LossSum(loss_U.sum(), len(loss_U), figures, loss_U.detach())


def informed(ahead: Callable[[Batch], Sums], batches: Sequence[Batch]) -> list[Batch]:
    """The batches of a step, each with the means that a method's `ahead` finds over all of them.

    Means are made of sums, so that they are the same however the step is cut into batches.
    """
    found = [ahead(batch) for batch in batches]
    means = {
        name: sum(sums[name][0] for sums in found) / max(sum(sums[name][1] for sums in found), 1)
        for name in (found[0] if found else ())
    }
    return [replace(batch, numbers={**batch.numbers, **means}) for batch in batches]


@dataclass(frozen=True, slots=True)
class Companion:
    """A module that a method trains beside the model; it is saved, but not exported.

    Attributes:
        module: In fp32; it gets hidden states, (N, D) float32, and gives (N, 1).
        rate: Factor on the learning rate of its parameters.
    """

    module: nn.Module
    rate: float = 1.0


class Method(Protocol):
    """A method file, as the rest of the house sees it."""

    Config: type[Section]
    NEEDS: frozenset[str]

    def encoder(self, renderer: Renderer, config: Section) -> Encoder:
        """What turns a row into tokens and mask."""

    def loss(self, policy: Policy, batch: Batch, config: Section) -> LossSum:
        """The loss of one batch, summed and counted."""

    def ahead(self, policy: Policy, batch: Batch, config: Section) -> Sums:
        """What the loss of every batch of a step needs to know of all of them, without gradient.

        May be left out. It is asked of each batch of a step before any is trained on; the means
        come to `loss` and `measure` as `batch.numbers`, () each.
        """

    def measure(self, policy: Policy, batch: Batch, config: Section) -> dict[str, Tensor]:
        """(U,) float32 of each of the U examples of a batch: `loss`, and other figures by name.

        May be left out: held-out rows are then measured by the loss of their trained tokens.
        """

    def overall(
        self, sums: np.ndarray, counts: np.ndarray, numbers: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """Figures of all held-out examples together, by name, where no mean over them will do.

        May be left out.

        Args:
            sums: (n,) the loss of each, summed over what it counts.
            counts: (n,) how much that is.
            numbers: What the examples come with, end to end.
        """


def names() -> list[str]:
    """The methods there are."""
    return folder.names(methods)


def load(name: str) -> ModuleType:
    """The method file `name`; a RecipeError lists the choices when there is none."""
    return folder.load(methods, name, "method.name")
