"""MiSS: one small matrix for each layer, repeated along its inputs.

    y = W x + D^T sum_g x_g,   x cut into pieces x_g of rank numbers, D (rank, outputs) zero at
                               the start

MiSS (first named Bone), arXiv:2409.15371; structure, start and file format are PEFT's.
"""

from typing import Literal

from peft import MissConfig
from pydantic import Field
from transformers import PreTrainedModel

from tunesmith.adapters.base import Attached
from tunesmith.adapters.parts import layers
from tunesmith.adapters.parts.files import saved, write
from tunesmith.adapters.parts.keys import From, Targets
from tunesmith.config.section import Section

__all__ = ["Config", "attach", "saved", "write"]

LEARNING_RATE = 1e-3
"""Five times the QLoRA paper's rate for LoRA, and measured on the starter, 40 steps of 8 E2E rows
(docs/methods.md): held-out loss 1.44 at 1.1e-4, 1.36 at 3.3e-4, 1.37 at 1e-3, 1.49 at 3e-3. Longer
runs want less."""
TRAINS_BASE = False
FOLDER = "adapter"


class Config(Section):
    """Keys of `adapter` with `name: miss`."""

    name: Literal["miss"] = "miss"
    """Train one shared small matrix for each linear layer."""
    rank: int = Field(64, ge=1)
    """Rows of the matrix."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Probability of dropping an input of the update while training."""
    targets: Targets = "auto"
    from_: From = None


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """Put a matrix beside each target; it begins as zeros.

    Raises:
        RecipeError: A target that matches no linear layer of the base, or numbers that PEFT
            refuses.
    """
    wanted = MissConfig(
        r=config.rank,
        miss_dropout=config.dropout,
        target_modules=layers.chosen(model, config.targets),
    )
    return layers.attach(model, wanted, seed, config.from_)
