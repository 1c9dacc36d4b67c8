"""Frozen weights in fewer bits than trained ones, side by side in one model.

A base that is partly trained is loaded in fp32, for the weights that are trained; the others can
then be let down to the type in which they are multiplied. No product takes two types at once, so
such a model computes under autocast, everywhere.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from tunesmith.models.heads import ScoreHead
from tunesmith.models.soft import Soft


def narrow_frozen(model: nn.Module, dtype: torch.dtype) -> None:
    """Round every floating-point parameter that is not trained to `dtype`, in place."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def narrowest(model: nn.Module) -> torch.dtype | None:
    """The narrower type of a model whose own weights have two; None where they have one.

    What an adapter puts around a layer, which it then calls `base_layer`, is no weight of the
    model's own, nor is a soft prompt: they know how to join their numbers to those of the model.
    """
    types = {p.dtype for p in _own(model) if p.is_floating_point()}
    return min(types, key=lambda dtype: dtype.itemsize) if len(types) > 1 else None


def computing(model: nn.Module) -> AbstractContextManager[Any]:
    """Autocast to the narrower type, where a model's own weights have two."""
    dtype = narrowest(model)
    if dtype is None:
        return nullcontext()
    return torch.autocast(next(model.parameters()).device.type, dtype)


@contextmanager
def one_type(model: nn.Module) -> Iterator[torch.dtype]:
    """All weights in one type for the time of the block, which is given: fp32 where they have two.

    Rounded ones keep their numbers, so they are afterwards what they were before.
    """
    if narrowest(model) is None:
        yield next(model.parameters()).dtype
        return
    rounded = [(p, p.dtype) for p in model.parameters() if p.is_floating_point()]
    try:
        for parameter, _ in rounded:
            parameter.data = parameter.data.float()
        yield torch.float32
    finally:
        for parameter, dtype in rounded:
            parameter.data = parameter.data.to(dtype)


def _own(module: nn.Module) -> Iterator[nn.Parameter]:
    if isinstance(module, ScoreHead | Soft):
        return  # They multiply in their own type, whatever they are given.
    if isinstance(getattr(module, "base_layer", None), nn.Module):
        yield from _own(module.base_layer)
        return
    yield from module.parameters(recurse=False)
    for child in module.children():
        yield from _own(child)
