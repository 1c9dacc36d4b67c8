"""What every adapter file defines, and how one is found by its name.

An adapter file holds:
    Config           a `Section` with `name: Literal["<file name>"]` and the adapter's own keys
    LEARNING_RATE    the usual peak rate, taken when the recipe gives none, with its source
    TRAINS_BASE      whether the base's own weights are trained (they are then held in fp32)
    attach(model, config, seed) -> Attached
    write(attached, folder, base_id)      the trained weights in the field's own format
    saved(attached) -> Saved              what `write` must leave on the disk, from memory
    FOLDER           name of the folder in the run that `write` fills: "adapter" or "model"
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith import adapters
from tunesmith.config import folder
from tunesmith.config.section import Section
from tunesmith.models.quantize import num_parameters


@dataclass(frozen=True)
class Attached:
    """A model that is ready to train.

    Attributes:
        model: The transformers model; the adapter sits inside its layers.
        trained: The trained parameters by name, in a fixed order, all fp32.
        writer: What saves them: the PEFT model, or the transformers model itself.
        disabled: Makes a context in which the model answers as the base does; None when the base's
            own weights have been changed.
        targeted: Kinds of modules that are trained, with how many of each.
        untargeted: Kinds of modules with weights that are not, with how many of each.
        continued: Whether training goes on from an adapter that was trained before.
        rates: Factors on the learning rate of single parameters, by their names in `trained`; 1 for
            those that are not named.
    """

    model: PreTrainedModel
    trained: dict[str, nn.Parameter]
    writer: Any
    disabled: Callable[[], AbstractContextManager[Any]] | None
    targeted: dict[str, int]
    untargeted: dict[str, int]
    continued: bool = False
    rates: dict[str, float] = field(default_factory=dict)

    @property
    def num_trained(self) -> int:
        """Trained parameters, counted in numbers."""
        return sum(parameter.numel() for parameter in self.trained.values())

    @property
    def share(self) -> float:
        """Trained parameters as a share of all."""
        return self.num_trained / num_parameters(self.model)


@dataclass(frozen=True)
class Saved:
    """What an artefact holds, as it is in memory.

    Attributes:
        tensors: By their names in its safetensors files; views of the trained ones, not copies.
        config_file: Name of its JSON configuration.
        config: What stands in that.
    """

    tensors: dict[str, Tensor]
    config_file: str
    config: dict[str, Any]


class Adapter(Protocol):
    """An adapter file, as the rest of the house sees it."""

    Config: type[Section]
    LEARNING_RATE: float
    TRAINS_BASE: bool
    FOLDER: str

    def attach(self, model: PreTrainedModel, config: Section, seed: int) -> Attached:
        """Make `model` trainable as `config` says; the start is a function of `seed`."""

    def write(self, attached: Attached, folder: Path, base_id: str) -> None:
        """Write the trained weights into `folder`, which exists and is empty."""

    def saved(self, attached: Attached) -> Saved:
        """What `write` has written: the configuration is settled by then."""


def names() -> list[str]:
    """The adapters there are."""
    return folder.names(adapters)


def load(name: str) -> ModuleType:
    """The adapter file `name`; a RecipeError lists the choices when there is none."""
    return folder.load(adapters, name, "adapter.name")


def kinds(model: nn.Module, chosen: Callable[[str, nn.Module], bool]) -> Iterator[str]:
    """Last name parts of the modules that own weights themselves and that `chosen` accepts."""
    for name, module in model.named_modules():
        owns = next(module.parameters(recurse=False), None) is not None
        if name and owns and chosen(name, module):
            yield name.rpartition(".")[2]
