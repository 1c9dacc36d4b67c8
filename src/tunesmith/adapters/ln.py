"""LN: the weights of the norms are trained, and nothing else.

    n(x) = g o x / rms(x),   g trained from where the base has it

LayerNorm tuning, arXiv:2312.11420, section 3; structure and file format are PEFT's. Norms are
weights of the base itself, so it is held in fp32 and cannot be quantised.
"""

from typing import Literal

from peft import LNTuningConfig
from transformers import PreTrainedModel

from tunesmith.adapters.base import Attached
from tunesmith.adapters.parts import layers
from tunesmith.adapters.parts.files import saved, write
from tunesmith.adapters.parts.keys import From
from tunesmith.config.section import Section

__all__ = ["Config", "attach", "saved", "write"]

LEARNING_RATE = 3e-3
"""Measured on the starter, 12 steps of 3 ticket rows in bf16: held-out loss from 1.32 to 0.35 at
1e-3, 0.21 at 3e-3, 0.16 at 1e-2; the middle one, since longer runs want less."""
TRAINS_BASE = True
FOLDER = "adapter"


class Config(Section):
    """Keys of `adapter` with `name: ln`."""

    name: Literal["ln"] = "ln"
    """Train the weights of the norms."""
    targets: Literal["auto"] | list[str] = "auto"
    """auto: every norm; or last name parts, such as [input_layernorm]."""
    from_: From = None


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """Train a copy of each norm; nothing is drawn, so `seed` changes nothing here.

    Raises:
        RecipeError: A target that matches no linear layer of the base, or numbers that PEFT
            refuses.
    """
    norms = sorted({name.rpartition(".")[2] for name in layers.norm_names(model)})
    targets = layers.require_targets(config.targets, norms, "norms")
    return layers.attach(model, LNTuningConfig(target_modules=sorted(targets)), seed, config.from_)
