"""Tensors made of tensors, such as moments in few bits: taken apart for the disk and put together.

A class is looked up where the optimizer's own library has it, and only if that has been imported: a
checkpoint cannot name other code.
"""

import sys
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.errors import CheckpointError


def is_wrapped(tensor: Tensor) -> bool:
    """Whether it is a class of its own that stands for other tensors."""
    return type(tensor) not in (Tensor, nn.Parameter)


def take_apart(tensor: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The plain tensors inside, by name, and the values that say how they belong together.

    Raises:
        CheckpointError: The class has no protocol for that (`__tensor_flatten__`).
    """
    kind = type(tensor)
    if not hasattr(tensor, "__tensor_flatten__"):
        raise CheckpointError(
            "optimizer",
            got=f"a tensor of type {kind.__module__}.{kind.__qualname__}",
            expected="plain tensors, or a class with __tensor_flatten__",
            hint="choose another train.optimizer",
        )
    names, context = tensor.__tensor_flatten__()
    values = {
        "class": [kind.__module__, kind.__qualname__],
        "context": [_plain(value) for value in context],
    }
    return {name: getattr(tensor, name) for name in names}, values


def put_together(parts: dict[str, Tensor], values: dict[str, Any], library: str) -> Tensor:
    """The reverse of `take_apart`.

    Args:
        parts: The plain tensors.
        values: The values.
        library: Name of the package that the optimizer is from.

    Raises:
        CheckpointError: The class is not one of that package.
    """
    module, name = values["class"]
    kind = getattr(sys.modules.get(module), name, None)
    if module.partition(".")[0] != library or not _is_class(kind):
        raise CheckpointError(
            "optimizer",
            got=f"a tensor of type {module}.{name}",
            expected=f"one of a class of {library}, the library of the optimizer",
        )
    context = [_typed(value) for value in values["context"]]
    return kind.__tensor_unflatten__(parts, context, None, None)


def _is_class(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Tensor)


def _plain(value: Any) -> Any:
    """A type of numbers as its name, a shape as a tuple."""
    if isinstance(value, torch.dtype):
        return {"$dtype": str(value).removeprefix("torch.")}
    return tuple(value) if isinstance(value, torch.Size) else value


def _typed(value: Any) -> Any:
    if isinstance(value, dict) and "$dtype" in value:
        return getattr(torch, value["$dtype"])
    return value
