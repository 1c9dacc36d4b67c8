"""What every method file defines, and how one is found by its name.

A method file holds, below a docstring with paper and equation:
    Config       a `Section` with `name: Literal["<file name>"]` and the method's own keys
    NEEDS        what must be built for it: some of "reference", "sampler", "reward", "teacher"
    encoder(renderer, config) -> Encoder      what turns a row into tokens and mask
    loss(policy, batch, config) -> LossSum
and, where the loss is not that of the trained tokens one by one:
    measure(policy, batch, config) -> dict    of each held-out example; see `Method.measure`
and, where it has figures of all held-out rows together:
    overall(values, counts, numbers) -> dict  such as F1; see `Method.overall`
and, where the loss of a batch depends on the other batches of its step:
    ahead(policy, batch, config) -> Ahead     what they tell each other; see `Method.ahead`
and, where something is trained beside the model:
    companion(width, config) -> Companion     such as a value head; it is `policy.companion`
and, where the model ends in another head than the language model's:
    head(config) -> Head                      what it ends in; the encoder trains no token then
    settle(config, files) -> config           what the training rows decide of its keys, if any

With "reference" in NEEDS, batches bring `numbers["reference"]`: (R,) the log-probability of the
trained tokens of each sequence under the model as it was before step 1.

With "sampler" in NEEDS, the model draws the answers itself. `Config` is a `_sampled.Sampled`, rows
are prompts, and the file defines besides:
    lessons(groups, config) -> [Lesson, ...]  of all groups that were drawn together, in order
Batches then bring as `numbers` what the lessons name, and by token: `sampler`, and where
`Config.judged_first` says so `old`, with a companion `values` too; where `Config.compared` does,
`reference`. See `data/rollout.py`.

With "teacher" in NEEDS, `Config` is a `_divergence.Taught`, and batches bring the `top_k` likeliest
tokens of the teacher in each place, `teacher_ids` and `teacher_log_probs`, (N, K). Written answers
are asked about before step 1; those of a sampler when they are drawn, `Config.teacher_tokens` each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from types import ModuleType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tunesmith import methods
from tunesmith.config import folder
from tunesmith.config.section import Section
from tunesmith.data.example import Batch
from tunesmith.data.section import Source
from tunesmith.data.store import Encoder
from tunesmith.data.template import Renderer
from tunesmith.models.heads import Head
from tunesmith.models.policy import Policy

Sums = Mapping[str, tuple[Tensor, int]]
"""Figures by name: the sum of each, () and without gradient, and what to divide it by."""
Values = Mapping[str, np.ndarray]
"""What held-out examples have, by name."""
Ahead = Mapping[str, tuple[Tensor, int] | Tensor]
"""The same, or tensors whose first dimension counts what the batch has of them."""


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
        values: (U,) of each example, by name: `loss`, and figures that are told with it; names
            that begin with an underscore are for `overall` alone.
    """
    loss_U = values["loss"]
    told = {k: v for k, v in values.items() if k != "loss" and not k.startswith("_")}
    figures = {k: (v.detach().sum(), len(v)) for k, v in told.items()}
    return LossSum(loss_U.sum(), len(loss_U), figures, loss_U.detach())


def informed(ahead: Callable[[Batch], Ahead], batches: Sequence[Batch]) -> list[Batch]:
    """The batches of a step, each with what a method's `ahead` finds over all of them.

    Means are made of sums, so that they are the same however the step is cut into batches. Tensors
    are laid end to end; where a batch's own part begins stands beside each, as `<name> from`.
    """
    found = [ahead(batch) for batch in batches]
    names = list(found[0]) if found else []
    told = {name: _joined([each[name] for each in found]) for name in names}
    tensors = [name for name in names if isinstance(found[0][name], Tensor)]
    sizes = {name: [len(each[name]) for each in found] for name in tensors}
    starts = {name: list(accumulate(sizes[name], initial=0)) for name in tensors}
    own = [
        {f"{name} from": torch.tensor(starts[name][number]) for name in tensors}
        for number in range(len(found))
    ]
    return [
        replace(batch, numbers={**batch.numbers, **told, **begins})
        for batch, begins in zip(batches, own, strict=True)
    ]


def _joined(parts: Sequence[tuple[Tensor, int] | Tensor]) -> Tensor | float:
    """One name of `ahead` over all batches: tensors end to end, sums as their mean."""
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return sum(value for value, _ in parts) / max(sum(count for _, count in parts), 1)


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

    def ahead(self, policy: Policy, batch: Batch, config: Section) -> Ahead:
        """What the loss of every batch of a step needs to know of all of them, without gradient.

        May be left out. It is asked of each batch of a step before any is trained on; the means
        come to `loss` and `measure` as `batch.numbers`, () each, and so do tensors, joined over
        the step; `informed` says how.
        """

    def measure(self, policy: Policy, batch: Batch, config: Section) -> dict[str, Tensor]:
        """(U,) float32 of each of the U examples of a batch: `loss`, and other figures by name.

        May be left out: held-out rows are then measured by the loss of their trained tokens.
        """

    def overall(self, values: Values, counts: np.ndarray, numbers: Values) -> dict[str, float]:
        """Figures of all held-out examples together, by name, where no mean over them will do.

        May be left out.

        Args:
            values: (n,) of each example by name: `loss`, summed over what it counts, and all that
                `measure` gives besides, if there is one.
            counts: (n,) how much the loss counts: the trained tokens, or 1 for a whole example.
            numbers: What the examples come with, end to end.
        """


def names() -> list[str]:
    """The methods there are."""
    return folder.names(methods)


def load(name: str) -> ModuleType:
    """The method file `name`; a RecipeError lists the choices when there is none."""
    return folder.load(methods, name, "method.name")


def head_of(config: Section) -> Head | None:
    """What the model of a method ends in; None for the language-model head."""
    method = load(config.name)
    return method.head(config) if hasattr(method, "head") else None


def settled(config: Section, files: Sequence[Source]) -> Section:
    """The keys of a method, with those filled in that the training rows decide.

    Raises:
        DataError: The rows decide nothing, or cannot be read.
    """
    method = load(config.name)
    return method.settle(config, files) if hasattr(method, "settle") else config
