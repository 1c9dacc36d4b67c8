"""Optimizers by name, those of torch.optim and those of `optimizers/`, their arguments checked."""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from tunesmith.config import check, folder
from tunesmith.engine import optimizers
from tunesmith.engine.optimizers.base import Choice
from tunesmith.errors import RecipeError

_UNFIT = {"optimizer", "lbfgs", "sparseadam", "rprop"}
"""The base class; one that wants a closure; one for sparse gradients; one for full batches."""
_GIVEN = {"params", "lr", "weight_decay"}
"""Arguments that come from other keys of the recipe."""


def names() -> list[str]:
    """The optimizers there are: those that this torch has, lower case, and those of the folder."""
    return sorted({*_of_torch(), *folder.names(optimizers)})


def choose(name: str, device: torch.device) -> Choice:
    """What is known of the optimizer `name`, in any case.

    Raises:
        RecipeError: There is no such optimizer, or it does not work on `device`.
        MachineError: The library that has it is not installed.
    """
    name = check.choose(name.lower(), names(), "train.optimizer")
    if name in folder.names(optimizers):
        return folder.load(optimizers, name, "train.optimizer").choice(device)
    return Choice(_of_torch()[name])


def require_schedule(name: str, choice: Choice, schedule: str) -> None:
    """Refuse a schedule that the optimizer does not go with."""
    if choice.schedules and schedule not in choice.schedules:
        raise RecipeError(
            "train.schedule",
            got=f"{schedule} with train.optimizer: {name}",
            expected=" or ".join(choice.schedules),
            hint=f"set train.schedule: {choice.schedules[0]}",
        )


def build(
    name: str,
    groups: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    learning_rate: float,
    weight_decay: float,
    options: dict[str, Any],
) -> Optimizer:
    """Build the optimizer `name`; the fused form where it has one.

    Args:
        name: As in the recipe.
        groups: Parameters, or groups of them, each of which may say its own weight decay.
        learning_rate: Of the first step.
        weight_decay: Of groups that say nothing.
        options: Further arguments.

    Raises:
        RecipeError: An unknown name or argument, or a value that the optimizer refuses.
        MachineError: The library that has it is not installed.
    """
    given = list(groups)
    choice = choose(name, _device(given))
    known = inspect.signature(choice.kind).parameters
    _require_known(choice.kind, known, options)
    arguments = {"lr": learning_rate, **choice.defaults, **_tuples(options)}
    if "weight_decay" in known:
        arguments["weight_decay"] = weight_decay
    elif weight_decay:
        raise RecipeError(
            "train.weight_decay", got=str(weight_decay), expected=f"0 with {choice.kind.__name__}"
        )
    if "fused" in known and not {"fused", "foreach", "differentiable"} & options.keys():
        arguments["fused"] = True
    try:
        built = choice.kind(given, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(
            "train.optimizer_options",
            got=f"{options}: {error}",
            expected=f"what {choice.kind.__name__} takes",
        ) from error
    if choice.begin is not None:
        choice.begin(built)
    return built


def _of_torch() -> dict[str, type[Optimizer]]:
    found = {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, Optimizer)
    }
    return {name: kind for name, kind in found.items() if name not in _UNFIT}


def _device(groups: Sequence[Any]) -> torch.device:
    first = groups[0]["params"][0] if isinstance(groups[0], dict) else groups[0]
    return first.device


def _require_known(kind: type[Optimizer], known: Iterable[str], options: dict[str, Any]) -> None:
    free = sorted(set(known) - _GIVEN)
    for option in options:
        if option not in free:
            raise RecipeError(
                f"train.optimizer_options.{option}",
                got="an unknown argument",
                expected=f"an argument of {kind.__name__}: {', '.join(free)}",
                hint=check.did_you_mean(option, free),
            )


def _tuples(options: dict[str, Any]) -> dict[str, Any]:
    """YAML has lists where torch wants tuples (betas)."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
