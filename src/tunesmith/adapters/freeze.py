"""Partial fine-tuning: some of the base's own weights are trained, the others stay.

Which ones can be said in several ways, whose choices are added up: the last blocks (as in ULMFiT,
arXiv:1801.06146, section 3.3, and arXiv:1911.03090, where a fourth of the layers kept most of the
quality of full fine-tuning), a share of all parameters, patterns of names, embeddings, norms.
Trained weights and their moments are fp32; the others are held in `model.dtype`.
"""

import re
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import Field
from torch import nn
from transformers import PreTrainedModel

from tunesmith.adapters.base import Attached, kinds
from tunesmith.adapters.full import saved, write
from tunesmith.adapters.parts.layers import norm_names
from tunesmith.config.section import Section
from tunesmith.errors import RecipeError

__all__ = ["Config", "attach", "saved", "write"]

LEARNING_RATE = 5e-5
"""The default of transformers' trainer, which LlamaFactory's freeze tuning takes over. Small bases
want more. Measured on the starter, 40 steps of 8 E2E rows (docs/methods.md): held-out loss 2.19 at
1.7e-5, 2.02 at 5e-5, 1.79 at 1.5e-4, 1.62 at 4.5e-4, 1.55 at 1.4e-3, the last one tried."""
TRAINS_BASE = True
FOLDER = "model"

DEFAULT_BLOCKS = 2
"""Trained where the recipe names nothing, as LlamaFactory has it."""


class Config(Section):
    """Keys of `adapter` with `name: freeze`."""

    name: Literal["freeze"] = "freeze"
    """Train some of the base's weights and freeze the others."""
    last_blocks: int = Field(0, ge=0)
    """So many blocks, counted from the head; 2 where nothing else is chosen."""
    share: float | None = Field(None, gt=0, le=1)
    """As many blocks from the head as stay within this share of all parameters."""
    patterns: list[str] = Field([])
    """Names of parameters with * for any text: ["*.mlp.down_proj.weight"]."""
    embeddings: bool = False
    """The embedding, and the head where it is the same matrix."""
    norms: bool = False
    """Every norm."""


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """Let the chosen parameters be trained; nothing is drawn, so `seed` changes nothing here.

    Raises:
        RecipeError: A pattern that matches no parameter, more blocks than there are, or a share
            that no block fits into.
    """
    names = set(_chosen(model, config))
    model.requires_grad_(False)
    trained = {n: p for n, p in model.named_parameters() if n in names}
    for parameter in trained.values():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    owners = {name.rpartition(".")[0] for name in trained}
    return Attached(
        model=model,
        trained=trained,
        writer=model,
        disabled=None,
        targeted=dict(Counter(kinds(model, lambda name, _: name in owners))),
        untargeted=dict(Counter(kinds(model, lambda name, _: name not in owners))),
    )


def _chosen(model: PreTrainedModel, config: Config) -> Iterator[str]:
    names = [name for name, _ in model.named_parameters()]
    yield from _matched(names, config.patterns)
    yield from _of_blocks(model, config)
    if config.embeddings:
        embedding = model.get_input_embeddings().weight
        yield from (name for name, p in model.named_parameters() if p is embedding)
    if config.norms:
        norms = set(norm_names(model))
        yield from (name for name in names if name.rpartition(".")[0] in norms)


def _matched(names: list[str], patterns: list[str]) -> Iterator[str]:
    for pattern in patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            raise RecipeError(
                "adapter.patterns",
                got=f"{pattern!r}, which no parameter has",
                expected=f"a pattern of names such as {names[len(names) // 2]}",
            )
        yield from found


def _of_blocks(model: PreTrainedModel, config: Config) -> list[str]:
    """Names of the parameters of the last blocks."""
    blocks = _blocks(model)
    count = config.last_blocks
    if count > len(blocks):
        raise RecipeError(
            "adapter.last_blocks", got=str(count), expected=f"at most {len(blocks)}, all there are"
        )
    if config.share is not None:
        count = max(count, _within(blocks, config.share, model))
    elif not (count or config.patterns or config.embeddings or config.norms):
        count = min(DEFAULT_BLOCKS, len(blocks))
    return [name for block in blocks[len(blocks) - count :] for name in block]


def _blocks(model: PreTrainedModel) -> list[dict[str, nn.Parameter]]:
    """The parameters of each block by name: those with a number of their own in their names."""
    found: dict[int, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        number = re.search(r"\.(\d+)\.", name)
        if number:
            found.setdefault(int(number[1]), {})[name] = parameter
    if not found:
        raise RecipeError(
            "adapter", got="a base without numbered blocks", expected="patterns of names to train"
        )
    return [found[number] for number in sorted(found)]


def _within(blocks: list[dict[str, nn.Parameter]], share: float, model: PreTrainedModel) -> int:
    """How many blocks from the head are within a share of all parameters."""
    room = share * sum(parameter.numel() for parameter in model.parameters())
    count = 0
    for block in reversed(blocks):
        room -= sum(parameter.numel() for parameter in block.values())
        if room < 0:
            break
        count += 1
    if not count:
        raise RecipeError(
            "adapter.share",
            got=f"{share}, less than one block",
            expected="a share that holds a block",
            hint="choose patterns instead",
        )
    return count
