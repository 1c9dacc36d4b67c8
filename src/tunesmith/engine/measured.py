"""Weights that are measured and exported in the place of those that are trained.

They are the same but for optimizers that keep an average (schedule-free), and for averages that a
run makes on its own.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Measured:
    """What to measure.

    Attributes:
        trained: The trained parameters by name.
        put: Overwrites them with the weights to measure; None where they are these.
    """

    trained: Mapping[str, Tensor] = field(default_factory=dict)
    put: Callable[[], None] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """The weights to measure, for the time of the block; then the trained ones, bit for bit."""
        with put_in_place(self.trained, self.put):
            yield

    def settle(self) -> None:
        """The weights to measure, for good: before an export."""
        if self.put is not None:
            self.put()


@contextmanager
def put_in_place(trained: Mapping[str, Tensor], put: Callable[[], None] | None) -> Iterator[None]:
    """Let `put` overwrite `trained` for the time of the block."""
    if put is None:
        yield
        return
    kept = [parameter.detach().clone() for parameter in trained.values()]
    put()
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, was in zip(trained.values(), kept, strict=True):
                parameter.copy_(was)


@torch.no_grad()
def overwrite(trained: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Give each of `trained` the values of that name."""
    for name, parameter in trained.items():
        parameter.copy_(values[name])
