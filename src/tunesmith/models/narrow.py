"""Frozen weights in fewer bits than trained ones, in one model.

A model whose own weights are partly trained is loaded in fp32, for the trained ones; the others
can then be let down to the type in which they are multiplied.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def narrow_frozen(model: nn.Module, dtype: torch.dtype) -> None:
    """Round every floating-point parameter that is not trained to `dtype`, in place."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def is_mixed(model: nn.Module) -> bool:
    """Whether some of the model's own weights are trained and wider than those that are frozen."""
    trained = {p.dtype for p in model.parameters() if p.requires_grad}
    frozen = {p.dtype for p in model.parameters() if p.is_floating_point() and not p.requires_grad}
    return bool(frozen - trained)


@contextmanager
def one_type(model: nn.Module) -> Iterator[None]:
    """All weights in fp32 for the time of the block, the rounded ones with the same numbers.

    Outside of autocast, no product takes two types at once.
    """
    narrow = {p: p.dtype for p in model.parameters() if p.is_floating_point()}
    narrow = {p: dtype for p, dtype in narrow.items() if dtype is not torch.float32}
    try:
        for parameter in narrow:
            parameter.data = parameter.data.float()
        yield
    finally:
        for parameter, dtype in narrow.items():
            parameter.data = parameter.data.to(dtype)
