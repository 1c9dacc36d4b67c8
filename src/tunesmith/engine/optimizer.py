"""Optimizers of torch.optim by name, with their arguments checked."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from tunesmith.config.check import choose, did_you_mean
from tunesmith.errors import RecipeError

_UNFIT = {"optimizer", "lbfgs", "sparseadam", "rprop"}
"""The base class; one that wants a closure; one for sparse gradients; one for full batches."""


def names() -> dict[str, type[Optimizer]]:
    """The optimizers that this torch has, by their lower-case names."""
    found = {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, Optimizer)
    }
    return {name: kind for name, kind in found.items() if name not in _UNFIT}


def build(
    name: str,
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    weight_decay: float,
    options: dict[str, Any],
) -> Optimizer:
    """Build the optimizer `name`; the fused form where it has one.

    Raises:
        RecipeError: An unknown name or argument, or a value that the optimizer refuses.
    """
    kinds = names()
    kind = kinds[choose(name.lower(), kinds, "train.optimizer")]
    known = inspect.signature(kind).parameters
    for option in options:
        if option not in known or option in {"params", "lr", "weight_decay"}:
            raise RecipeError(
                f"train.optimizer_options.{option}",
                got="an unknown argument",
                expected=f"an argument of {kind.__name__}: {', '.join(_free(known))}",
                hint=did_you_mean(option, _free(known)),
            )
    arguments = {"lr": learning_rate, **_tuples(options)}
    if "weight_decay" in known:
        arguments["weight_decay"] = weight_decay
    elif weight_decay:
        raise RecipeError(
            "train.weight_decay", got=str(weight_decay), expected=f"0 with {kind.__name__}"
        )
    if "fused" in known and not {"fused", "foreach", "differentiable"} & options.keys():
        arguments["fused"] = True
    try:
        return kind(list(parameters), **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(
            "train.optimizer_options",
            got=f"{options}: {error}",
            expected=f"what {kind.__name__} takes",
        ) from error


def _free(known: Iterable[str]) -> list[str]:
    return sorted(set(known) - {"params", "lr", "weight_decay"})


def _tuples(options: dict[str, Any]) -> dict[str, Any]:
    """YAML has lists where torch wants tuples (betas)."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
