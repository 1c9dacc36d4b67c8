"""Results that the backward pass makes again: those of norms and gated units.

Their inputs are kept anyway. They are a quarter of what a layer would keep, and are made in a
fiftieth of the time of a step. Such a result carries how it was made, and whoever would keep it
keeps that.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Again:
    """How a tensor is made.

    Attributes:
        make: From `sources`, the same bits every time.
        sources: Tensors that are kept anyway, apart from the graph.
    """

    make: Callable[..., Tensor]
    sources: tuple[Tensor, ...]


def carrying(y: Tensor, make: Callable[..., Tensor], *sources: Tensor) -> Tensor:
    """`y`, which now carries how it is made."""
    y.again = Again(make, tuple(source.detach() for source in sources))
    return y


def kept(x: Tensor, width: int, dtype: torch.dtype) -> Again:
    """What is kept of `x`, to have it as rows of `width` numbers in `dtype` again."""
    found = getattr(x, "again", None) or Again(_itself, (x.detach(),))
    # The function alone: with its sources it would keep them for as long as the graph is there.
    make = found.make
    return Again(lambda *sources: make(*sources).reshape(-1, width).to(dtype), found.sources)


def _itself(x: Tensor) -> Tensor:
    return x
