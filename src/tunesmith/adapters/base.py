"""What every adapter file defines, and how one is found by its name.

An adapter file holds:
    Config           a `Section` with `name: Literal["<file name>"]` and the adapter's own keys
    LEARNING_RATE    the usual peak rate, taken when the recipe gives none, with its source
    multiple(config) the best rate as a multiple of that of full fine-tuning; may be left out, then
                     LEARNING_RATE is taken for every base
    TRAINS_BASE      whether weights of the base itself are trained (it is then loaded in fp32)
    attach(model, config, seed) -> Attached
    write(attached, folder, base_id)      the trained weights in the field's own format
    saved(attached) -> Saved              what `write` must leave on the disk, from memory
    FOLDER           name of the folder in the run that `write` fills: "adapter" or "model"

It may hold besides, where it has need of them:
    Config.virtual_tokens   how many virtual tokens are laid before each example
    Config.changes_base     whether these keys change the base's weights, though none is trained
    Config.reads_base       whether these keys compute with the base's weights as numbers, which a
                            quantised base does not have
    Config.added_tokens     texts that become tokens of the base before any row is read
    attach_from(model, config, seed, material) -> Attached
                            in place of `attach`, for a start that depends on rows or on weights
    reopen(model, folder) -> nn.Module    for a folder in a format that PEFT does not know: `model`
                            with the adapter on, called as it is, and with PEFT's `disable_adapter`
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith import adapters
from tunesmith.config import folder
from tunesmith.config.section import Section
from tunesmith.models.heads import SCORE, SCORES, Head
from tunesmith.models.quantize import num_parameters

OWN_FORMAT = "tunesmith"
"""Key of adapter_config.json that names the adapter file whose own format the folder has."""


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
        head: What the model ends in; None for the language-model head.
    """

    model: PreTrainedModel
    trained: dict[str, nn.Parameter]
    writer: Any
    disabled: Callable[[], AbstractContextManager[Any]] | None
    targeted: dict[str, int]
    untargeted: dict[str, int]
    continued: bool = False
    rates: dict[str, float] = field(default_factory=dict)
    head: Head | None = None

    @property
    def num_trained(self) -> int:
        """Trained parameters, counted in numbers."""
        return sum(parameter.numel() for parameter in self.trained.values())

    @property
    def share(self) -> float:
        """Trained parameters as a share of all."""
        return self.num_trained / num_parameters(self.model)


@dataclass(frozen=True)
class Material:
    """What a start may be computed from, besides the model.

    Attributes:
        ids: Turns a text into token ids, without special tokens around it.
        rows: Gives the token ids of some training rows, (T,) int64 each; the same at every call.
        published: Gives the weight of a linear layer, by the layer's name, as it was published.
        added: Ids of the tokens that were added for this adapter.
    """

    ids: Callable[[str], Sequence[int]]
    rows: Callable[[], Sequence[Tensor]] = tuple
    published: Callable[[str], Tensor] | None = None
    added: Sequence[int] = ()


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


def own_format(folder: Path) -> str | None:
    """The adapter file in whose own format a folder is; None for PEFT's, and for a model."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8")).get(OWN_FORMAT)


def attach(
    config: Section, model: PreTrainedModel, seed: int, material: Material | None = None
) -> Attached:
    """Attach the adapter that `config` is of, with the material if its file asks for some."""
    adapter = load(config.name)
    if hasattr(adapter, "attach_from"):
        return adapter.attach_from(model, config, seed, material)
    return adapter.attach(model, config, seed)


def virtual_tokens(config: Section) -> int:
    """Virtual tokens that the adapter lays before each example; 0 for most adapters."""
    return getattr(config, "virtual_tokens", 0)


def changes_base(config: Section) -> bool:
    """Whether weights of the base do not stay as published: they are then held in fp32."""
    return load(config.name).TRAINS_BASE or getattr(config, "changes_base", False)


def needs_plain_base(config: Section) -> bool:
    """Whether the base cannot be quantised."""
    return changes_base(config) or getattr(config, "reads_base", False)


def added_tokens(config: Section) -> Sequence[str]:
    """Texts that become tokens of the base before any row is read."""
    return getattr(config, "added_tokens", ())


def kinds(model: nn.Module, chosen: Callable[[str, nn.Module], bool]) -> Iterator[str]:
    """Last name parts of the modules that own weights themselves and that `chosen` accepts."""
    for name, module in model.named_modules():
        owns = next(module.parameters(recurse=False), None) is not None
        if name and owns and chosen(name, module):
            yield name.rpartition(".")[2]


def under(attached: Attached, head: Head) -> Attached:
    """The same with another head than the language model's, whose scores are trained in any case.

    Args:
        attached: What an adapter made of a model that ends in `head`.
        head: From the method.
    """
    if head.gives != SCORES:
        return replace(attached, head=head)
    score = getattr(attached.model, SCORE).requires_grad_(True)
    inside = [f"{SCORE}.{name}" for name, _ in score.named_modules() if name]
    names = {name.rpartition(".")[2] for name in [SCORE, *inside]}
    own = {n: p for n, p in attached.model.named_parameters() if n.startswith(f"{SCORE}.")}
    if hasattr(score, "original_module"):
        score.original_module.requires_grad_(False)
    trained = attached.trained | {n: p for n, p in own.items() if p.requires_grad}
    others = {kind: count for kind, count in attached.untargeted.items() if kind not in names}
    targeted = attached.targeted | {SCORE: 1}
    return replace(attached, trained=trained, targeted=targeted, untargeted=others, head=head)
