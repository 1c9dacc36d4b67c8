"""Prefix tuning: in every layer, trained keys and values before those of each example.

    h_i = P[i, :] for i in the prefix,   P trained, or P[i, :] = MLP(P'[i, :])

Li and Liang, arXiv:2101.00190, eq. 3 and section 4.3; file format and MLP are PEFT's. Without the
MLP the prefix begins as the keys and values of real tokens (section 7.4 of the paper: it matters
most where rows are few), so that the model begins as if it had read them. P is fp32. What an MLP
has made is saved, and not the MLP: an earlier prefix is gone on with as P itself.
"""

from typing import Literal, Self

import torch
from peft import PrefixTuningConfig
from pydantic import Field, model_validator
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tunesmith.adapters.base import Attached, Material
from tunesmith.adapters.parts import virtual
from tunesmith.adapters.parts.keys import From
from tunesmith.adapters.parts.virtual import saved, write
from tunesmith.config.section import Section
from tunesmith.errors import ModelError
from tunesmith.models import soft
from tunesmith.models.resting import resting
from tunesmith.models.soft_keys import SoftKeys

__all__ = ["Config", "attach", "attach_from", "saved", "write"]

LEARNING_RATE = 1e-2
"""Measured: 60 steps of 8 tickets took the starter from 1.38 to 0.15 nats on held-out rows. The
paper's 5e-5 (section 5.3) is for an MLP that makes the prefix."""
KINDS = frozenset(("full_attention", "sliding_attention"))
"""Layers that have keys and values."""
TRAINS_BASE = False
FOLDER = "adapter"


class Config(Section):
    """Keys of `adapter` with `name: prefix`."""

    name: Literal["prefix"] = "prefix"
    """Train keys and values of virtual tokens in every layer."""
    virtual_tokens: int = Field(20, ge=1)
    """How many."""
    init_text: str | None = Field(None, min_length=1)
    """They begin as the keys and values of this text, repeated or cut to as many tokens; left out,
    as those of tokens drawn from the vocabulary."""
    hidden: int | None = Field(None, ge=1)
    """Width of an MLP that makes them while training, from a random start; left out, they are
    trained themselves."""
    from_: From = None

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.hidden and self.init_text:
            raise ValueError("init_text or hidden, not both: an MLP has a random start")
        if self.from_ and self.init_text:
            raise ValueError("init_text or from, not both: each gives the numbers to start with")
        if self.from_ and self.hidden:
            raise ValueError("from without hidden: a run saves what its MLP made, not the MLP")
        return self


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """Give every layer of `model` the prefix; what is drawn is drawn from `seed`."""
    return _begin(model, config, seed, virtual.drawn_ids(model, config.virtual_tokens, seed))


def attach_from(
    model: PreTrainedModel, config: Config, seed: int, material: Material | None
) -> Attached:
    """As `attach`; a text is turned into ids by the tokenizer of the base."""
    ids_P = virtual.first_ids(model, config, seed, material)
    return _begin(model, config, seed, ids_P)


def _begin(model: PreTrainedModel, config: Config, seed: int, ids_P: Tensor) -> Attached:
    read = _read(model, ids_P.to(model.device))
    peft_config = PrefixTuningConfig(
        num_virtual_tokens=config.virtual_tokens,
        prefix_projection=config.hidden is not None,
        encoder_hidden_size=config.hidden,
    )
    attached = virtual.attach(model, peft_config, seed)
    prompt: SoftKeys = soft.of(model)
    wanted = prompt.keys_and_values(torch.float32).shape
    if any(each.shape != wanted[2:] for each in read) or len(read) != wanted[0] * 2:
        raise ModelError(
            type(model).__name__,
            got="layers whose keys and values are not all of the shape that PEFT gives a prefix",
            expected=f"{wanted[0]} layers with keys and values of {wanted[2]} heads by {wanted[4]}",
            hint="use adapter.name: prompt, or another base",
        )
    if config.hidden is None:
        read_PC = torch.stack(read).permute(2, 0, 1, 3).flatten(1)
        prompt.encoder.embedding.weight.data.copy_(read_PC)
    return virtual.go_on(attached, config.from_)


@torch.no_grad()
def _read(model: PreTrainedModel, ids_P: Tensor) -> list[Tensor]:
    """Keys (G, P, D) and values of each layer in turn, after reading `ids_P`.

    Raises:
        ModelError: Layers of another kind, such as linear attention, which has neither.
    """
    others = set(getattr(model.config, "layer_types", None) or ()) - KINDS
    if others:
        raise ModelError(
            type(model).__name__,
            got=f"layers of the kind {', '.join(sorted(others))}",
            expected="layers that attend to keys",
            hint="use adapter.name: prompt, or another base",
        )
    cache = DynamicCache()
    with resting(model):
        model.get_decoder()(input_ids=ids_P[None], past_key_values=cache, use_cache=True)
    return [each[0] for layer in cache.layers for each in (layer.keys, layer.values)]
