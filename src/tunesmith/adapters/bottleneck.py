"""Bottleneck adapters: a small network through few numbers after, or beside, parts of each block.

    serial      h' = h + s U f(D h + d) + s u      h what the part made of its input x
    parallel    h' = h + s U f(D x + d) + s u

D (width, inputs) narrows, U (outputs, width) widens, f is a nonlinearity; U, d and u are zero at
the start, so that the base answers as before.
    placement: houlsby     after attention and after the feed-forward layer; arXiv:1902.00751
    placement: pfeiffer    after the feed-forward layer alone; arXiv:2005.00247
    placement: parallel    beside the feed-forward layer; arXiv:2110.04366, which found s = 4 best
The part's output is changed before it is added to the residual stream. PEFT has no such adapter:
the folder holds safetensors, named as in the model, and the keys below as JSON, and is opened by
`tunesmith chat`, `evaluate` or `Run`, or by `bottleneck.reopen(model, folder)`. Between the two
products stands a nonlinearity, so it cannot be merged into the base.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn
from transformers import PreTrainedModel

from tunesmith.adapters.base import OWN_FORMAT, Attached, Saved, kinds
from tunesmith.adapters.parts import earlier, files
from tunesmith.adapters.parts.keys import From
from tunesmith.config.section import Section
from tunesmith.errors import RecipeError
from tunesmith.models.heads import task_of

LEARNING_RATE = 1e-3
"""Houlsby et al. chose among 3e-5 to 3e-3 for each task (arXiv:1902.00751, section 3.1)."""
TRAINS_BASE = False
FOLDER = "adapter"

CONFIG_FILE = "adapter_config.json"
NO_KEYS = frozenset({OWN_FORMAT, "base_model_name_or_path", "task_type"})
"""What stands in that file beside the keys."""
ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu, "tanh": torch.tanh}
PARTS = {
    "attention": ("self_attn", "attention", "attn"),
    "feed_forward": ("mlp", "feed_forward", "ffn", "block_sparse_moe"),
}
"""Names of the two parts of a block in the models of transformers."""
PLACED = {
    "houlsby": ("attention", "feed_forward"),
    "pfeiffer": ("feed_forward",),
    "parallel": ("feed_forward",),
}


class Config(Section):
    """Keys of `adapter` with `name: bottleneck`."""

    name: Literal["bottleneck"] = "bottleneck"
    """Train small networks after or beside parts of each block."""
    placement: Literal["houlsby", "pfeiffer", "parallel"] = "pfeiffer"
    """houlsby: after attention and feed-forward layer; pfeiffer: after the feed-forward layer;
    parallel: beside the feed-forward layer."""
    width: int = Field(64, ge=1)
    """Numbers that everything goes through."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    """The nonlinearity between the two products."""
    scale: float = Field(1.0, gt=0)
    """Factor on what is added; 4 is usual with parallel."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Probability of dropping one of the numbers in the middle while training."""
    from_: From = None


class Bottleneck(nn.Module):
    """A part of a block with a small network after or beside it.

    Args:
        base_layer: The part: attention or feed-forward layer.
        config: Width, nonlinearity, scale, dropout and placement.
        size: Numbers of the residual stream.
        device: Where the new numbers go; they are fp32.
    """

    def __init__(
        self, base_layer: nn.Module, config: Config, size: int, device: torch.device
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.down = nn.Linear(size, config.width, device=device, dtype=torch.float32)
        self.up = nn.Linear(config.width, size, device=device, dtype=torch.float32)
        self.dropout = nn.Dropout(config.dropout)
        self.activation = ACTIVATIONS[config.activation]
        self.scale = config.scale
        self.beside = config.placement == "parallel"
        self.on = True
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the part answers, changed; a tuple's first entry is the answer."""
        answer = self.base_layer(*args, **kwargs)
        if not self.on:
            return answer
        made = answer[0] if isinstance(answer, tuple) else answer
        read = made
        if self.beside:
            read = args[0] if args else kwargs["hidden_states"]
        inner = self.dropout(self.activation(self.down(read.to(self.down.weight.dtype))))
        changed = made + (self.scale * self.up(inner)).to(made.dtype)
        return (changed, *answer[1:]) if isinstance(answer, tuple) else changed


class Bottlenecked(nn.Module):
    """A model with bottlenecks in it, called as the model itself is.

    Args:
        model: The model; its blocks hold `Bottleneck`s.
        config: The keys that they were made with.
    """

    def __init__(self, model: PreTrainedModel, config: Config) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.base_id = ""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the model."""
        return self.model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Whatever else is asked of a model: its configuration, its device, its embedding."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """The base alone for the time of the block."""
        found = [m for m in self.model.modules() if isinstance(m, Bottleneck)]
        try:
            for module in found:
                module.on = False
            yield
        finally:
            for module in found:
                module.on = True


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """Put a network at each place; D is drawn from `seed`, the rest is zero.

    Raises:
        RecipeError: The parts of the base's blocks have no name known here.
    """
    torch.manual_seed(seed)
    model.requires_grad_(False)
    places = list(_places(model, config))
    for name in places:
        part = model.get_submodule(name)
        device = next(part.parameters()).device
        model.set_submodule(name, Bottleneck(part, config, model.config.hidden_size, device))
    inner = {f"{name}.{end}" for name in places for end in ("down", "up")}
    writer = Bottlenecked(model, config)
    attached = Attached(
        model=model,
        trained={n: p for n, p in model.named_parameters() if n.rpartition(".")[0] in inner},
        writer=writer,
        disabled=writer.disable_adapter,
        targeted=dict(Counter(name.rpartition(".")[2] for name in places)),
        untargeted=dict(Counter(kinds(model, lambda name, _: name not in inner))),
        continued=config.from_ is not None,
    )
    if config.from_:
        earlier.go_on(saved(attached), config.from_, "adapter.from")
    return attached


def write(attached: Attached, folder: Path, base_id: str) -> None:
    """Write adapter_config.json and adapter_model.safetensors; not PEFT's, though named alike."""
    attached.writer.base_id = base_id
    files.keep(saved(attached), folder)


def saved(attached: Attached) -> Saved:
    """The networks and a head of scores, named as in the model, and the keys of the networks."""
    keys = attached.writer.config.model_dump(mode="json", exclude={"name", "from_"})
    config = {OWN_FORMAT: "bottleneck", "base_model_name_or_path": attached.writer.base_id}
    if attached.head:
        config["task_type"] = task_of(attached.model)
    return Saved(dict(attached.trained), CONFIG_FILE, keys | config)


def reopen(model: PreTrainedModel, folder: Path) -> Bottlenecked:
    """Put the networks in `folder`, and the head if there is one, into `model`, in eval mode.

    Args:
        model: The base that they were trained on.
        folder: As `write` left it.
    """
    written = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    keys = {k: v for k, v in written.items() if k not in NO_KEYS}
    attached = attach(model, Config(**keys), seed=0)
    tensors = earlier.tensors_in(folder)
    with torch.no_grad():
        for name in attached.trained | tensors:
            model.get_parameter(name).copy_(tensors[name])
    return attached.writer.eval().requires_grad_(False)


def _places(model: PreTrainedModel, config: Config) -> Iterator[str]:
    """Names of the parts that get a network, in the order of the model."""
    wanted = [PARTS[part] for part in PLACED[config.placement]]
    blocks = [n for n, m in model.named_modules() if n.rpartition(".")[2].isdigit()]
    for names in wanted:
        found = [f"{block}.{name}" for block in blocks for name in names]
        there = {name for name, _ in model.named_modules()}
        if not any(name in there for name in found):
            raise RecipeError(
                "adapter.placement",
                got=f"{config.placement} for blocks without any of {', '.join(names)}",
                expected="a base whose blocks name their parts so",
            )
    ends = {name for names in wanted for name in names}
    for name, _ in list(model.named_modules()):
        block, _, end = name.rpartition(".")
        if end in ends and block in blocks:
            yield name
