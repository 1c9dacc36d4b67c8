"""What every optimizer file defines, and what is known of an optimizer that was chosen.

An optimizer file holds
    choice(device) -> Choice     imports the library that has it; an error where it cannot be used

All that such an optimizer keeps must hang on its parameters (`optimizer.state`) and be tensors and
plain values: a checkpoint saves that, without pickle, and the run goes on from it in the same bits.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

import torch
from torch.optim import Optimizer

from tunesmith.errors import MachineError


@dataclass(frozen=True)
class Choice:
    """An optimizer, and what the rest of the house has to know of it.

    Attributes:
        kind: Its class; takes parameter groups and `lr`.
        defaults: Arguments that we set otherwise than the class does.
        matrices: Whether it wants hidden matrices in groups of their own.
        schedules: The schedules it may be used with; empty for all.
        begin: Makes a new optimizer ready to step, where its class needs that.
        measured: Puts the parameters that are to be measured and exported in the place of those
            that are trained; None where they are the same. The trained ones come back as copies,
            so it need not be possible to undo it.
    """

    kind: type[Optimizer]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    matrices: bool = False
    schedules: tuple[str, ...] = ()
    begin: Callable[[Optimizer], None] | None = None
    measured: Callable[[Optimizer], None] | None = None


class OptimizerFile(Protocol):
    """An optimizer file, as the rest of the house sees it."""

    def choice(self, device: torch.device) -> Choice:
        """What is known of it, to train on `device`."""


def imported(module: str, name: str, extra: str) -> ModuleType:
    """A library that is installed only where someone wants it.

    Args:
        module: To import.
        name: Of the optimizer, for the message.
        extra: Of Tunesmith, which brings it.

    Raises:
        MachineError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MachineError(
            f"train.optimizer: {name}",
            got=f"no package {module.partition('.')[0]} ({error})",
            expected="that package",
            hint=f"pip install 'tunesmith[{extra}]', or train.optimizer: adamw",
        ) from error
