"""What every method file defines, and how one is found by its name.

A method file holds, below a docstring with paper and equation:
    Config       a `Section` with `name: Literal["<file name>"]` and the method's own keys
    NEEDS        what must be built for it: some of "reference", "sampler", "reward", "teacher"
    encoder(renderer, config) -> Encoder      what turns a row into tokens and mask
    loss(policy, batch, config) -> LossSum
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from torch import Tensor

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
    """

    total: Tensor
    count: int


class Method(Protocol):
    """A method file, as the rest of the house sees it."""

    Config: type[Section]
    NEEDS: frozenset[str]

    def encoder(self, renderer: Renderer, config: Section) -> Encoder:
        """What turns a row into tokens and mask."""

    def loss(self, policy: Policy, batch: Batch, config: Section) -> LossSum:
        """The loss of one batch, summed and counted."""


def names() -> list[str]:
    """The methods there are."""
    return folder.names(methods)


def load(name: str) -> ModuleType:
    """The method file `name`; a RecipeError lists the choices when there is none."""
    return folder.load(methods, name, "method.name")
