"""What every method file defines, and how one is found by its name.

A method file holds, below a docstring with paper and equation:
    Config       a `Section` with `name: Literal["<file name>"]` and the method's own keys
    NEEDS        what must be built for it: some of "reference", "sampler", "reward", "teacher"
    encoder(renderer, config) -> Encoder      what turns a row into tokens and mask
    loss(policy, batch, config) -> LossSum
and, where the loss is not that of the trained tokens one by one:
    measure(policy, batch, config) -> dict    of each held-out example; see `Method.measure`
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

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Protocol

from torch import Tensor, nn

from tunesmith import methods
from tunesmith.config import folder
from tunesmith.config.section import Section
from tunesmith.data.example import Batch
from tunesmith.data.store import Encoder
from tunesmith.data.template import Renderer
from tunesmith.models.policy import Policy


@dataclass(frozen=True, slots=True)
class LossSum:
    """A loss that has not been averaged. Only the loop divides, once per step.

    Attributes:
        total: () the loss summed over what it counts.
        count: What to divide by: trained tokens, or pairs.
        figures: What else the step should tell, by name: a sum, () and without gradient, and what
            to divide it by. Every batch of a run has the same ones.
    """

    total: Tensor
    count: int
    figures: Mapping[str, tuple[Tensor, int]] = field(default_factory=dict)


def summed(values: Mapping[str, Tensor]) -> LossSum:
    """The loss of a method that judges whole examples, from its `measure`.

    Args:
        values: (U,) of each example, by name: `loss`, and figures that are told with it.
    """
    loss_U = values["loss"]
    figures = {k: (v.detach().sum(), len(v)) for k, v in values.items() if k != "loss"}
    return LossSum(loss_U.sum(), len(loss_U), figures)


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

    def measure(self, policy: Policy, batch: Batch, config: Section) -> dict[str, Tensor]:
        """(U,) float32 of each of the U examples of a batch: `loss`, and other figures by name.

        May be left out: held-out rows are then measured by the loss of their trained tokens.
        """


def names() -> list[str]:
    """The methods there are."""
    return folder.names(methods)


def load(name: str) -> ModuleType:
    """The method file `name`; a RecipeError lists the choices when there is none."""
    return folder.load(methods, name, "method.name")
