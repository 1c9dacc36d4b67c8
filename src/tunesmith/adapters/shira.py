"""SHiRA: a small share of the numbers of each weight is trained, scattered at random.

    W' = W + S,   S zero but for rank (inputs + outputs) places, drawn once; they begin as 0

SHiRA, arXiv:2406.13175, section 3, with a random mask; structure and file format are PEFT's. As
many numbers are trained as LoRA of that rank has, but the update is of high rank.
"""

from typing import Literal

import torch
from peft import ShiraConfig
from pydantic import Field
from transformers import PreTrainedModel

from tunesmith.adapters.base import Attached
from tunesmith.adapters.parts import layers
from tunesmith.adapters.parts.files import saved, write
from tunesmith.adapters.parts.keys import From, Targets
from tunesmith.config.section import Section

__all__ = ["Config", "attach", "saved", "write"]

LEARNING_RATE = 3e-3
"""Measured on the starter, 40 steps of 8 E2E rows (docs/methods.md): held-out loss 1.54 at 3.3e-4,
1.42 at 1e-3, 1.36 at 3e-3, 1.38 at 9e-3."""
TRAINS_BASE = False
FOLDER = "adapter"


class Config(Section):
    """Keys of `adapter` with `name: shira`."""

    name: Literal["shira"] = "shira"
    """Train a few scattered numbers of each weight."""
    rank: int = Field(16, ge=1)
    """As many numbers are trained as LoRA of this rank would."""
    targets: Targets = "auto"
    from_: From = None

    @property
    def reads_base(self) -> bool:
        """The update is added to the weight before the product."""
        return True


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """Draw the places in each target from `seed`; the numbers there begin at zero.

    Raises:
        RecipeError: A target that matches no linear layer of the base, or numbers that PEFT
            refuses.
    """
    # PEFT's places are in range by construction; torch warns until someone has decided.
    torch.sparse.check_sparse_tensor_invariants.disable()
    wanted = ShiraConfig(
        r=config.rank,
        random_seed=seed,
        target_modules=layers.chosen(model, config.targets),
    )
    return layers.attach(model, wanted, seed, config.from_)
