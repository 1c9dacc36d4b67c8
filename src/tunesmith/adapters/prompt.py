"""Prompt tuning: virtual tokens before each example, their embeddings all that is trained.

    p(y | [P; X]) with P (virtual tokens, width) trained and the model frozen

Lester et al., arXiv:2104.08691, section 2; the file format is PEFT's. P is fp32. What P-tuning
leaves is such a P too, and can be gone on with.
"""

from typing import Literal, Self

import torch
from peft import PromptTuningConfig
from pydantic import Field, model_validator
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.adapters.base import Attached, Material
from tunesmith.adapters.parts import virtual
from tunesmith.adapters.parts.keys import From
from tunesmith.adapters.parts.virtual import saved, write
from tunesmith.config.section import Section
from tunesmith.models import soft

__all__ = ["Config", "attach", "attach_from", "saved", "write"]

LEARNING_RATE = 3e-2
"""Measured: 60 steps of 8 tickets took the starter from 1.38 to 0.18 nats on held-out rows; of 30
steps of 4, the loss of the last 10 was 0.38 at 3e-2 and 0.61 at 1e-1. The paper's 0.3 (section 3)
is for Adafactor and T5."""
TRAINS_BASE = False
FOLDER = "adapter"


class Config(Section):
    """Keys of `adapter` with `name: prompt`."""

    name: Literal["prompt"] = "prompt"
    """Train the embeddings of virtual tokens before each example."""
    virtual_tokens: int = Field(20, ge=1)
    """How many."""
    init_text: str | None = Field(None, min_length=1)
    """They begin as the embeddings of this text, repeated or cut to as many; left out, as those of
    tokens drawn from the vocabulary."""
    from_: From = None

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.from_ and self.init_text:
            raise ValueError("init_text or from, not both: each gives the numbers to start with")
        return self


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """Put virtual tokens before everything that `model` reads; drawn from `seed`."""
    return _begin(model, config, seed, virtual.drawn_ids(model, config.virtual_tokens, seed))


def attach_from(
    model: PreTrainedModel, config: Config, seed: int, material: Material | None
) -> Attached:
    """As `attach`; a text is turned into ids by the tokenizer of the base."""
    ids_P = virtual.first_ids(model, config, seed, material)
    return _begin(model, config, seed, ids_P)


def _begin(model: PreTrainedModel, config: Config, seed: int, ids_P: Tensor) -> Attached:
    peft_config = PromptTuningConfig(num_virtual_tokens=config.virtual_tokens)
    attached = virtual.attach(model, peft_config, seed)
    with torch.no_grad():
        embedded_PD = model.get_input_embeddings()(ids_P.to(model.device))
        soft.of(model).encoder.embedding.weight.copy_(embedded_PD)
    return virtual.go_on(attached, config.from_)
