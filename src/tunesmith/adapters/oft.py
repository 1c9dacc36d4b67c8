"""OFT: each layer's inputs are turned by a trained rotation in blocks.

    W' = W R,   R = (I + Q)(I - Q)^-1 in blocks on the diagonal, Q skew-symmetric, zero at first

OFT, arXiv:2306.07280, on the side of the inputs as in arXiv:2506.19847, and with its
series of a few terms for the inverse; structure, start and file format are PEFT's. A rotation keeps
the angles between the neurons of a layer.
"""

from typing import Literal

from peft import OFTConfig
from pydantic import Field
from transformers import PreTrainedModel

from tunesmith.adapters.base import Attached
from tunesmith.adapters.parts import layers
from tunesmith.adapters.parts.files import saved, write
from tunesmith.adapters.parts.keys import From, Targets
from tunesmith.config.section import Section

__all__ = ["Config", "attach", "saved", "write"]

LEARNING_RATE = 1e-3
"""Measured on the starter, 12 steps of 3 ticket rows in bf16: held-out loss from 1.34 to 0.13 at
1e-3, 0.94 at 3e-3."""
TRAINS_BASE = False
FOLDER = "adapter"


class Config(Section):
    """Keys of `adapter` with `name: oft`."""

    name: Literal["oft"] = "oft"
    """Turn the inputs of linear layers by trained rotations."""
    block: int = Field(32, ge=2)
    """Inputs that are turned together; a divisor of every target's number of inputs."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Probability of leaving a block unturned while training."""
    targets: Targets = "auto"
    from_: From = None


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """Put a rotation before each target; it begins as none.

    Raises:
        RecipeError: A target that matches no linear layer of the base, or numbers that PEFT
            refuses.
    """
    wanted = OFTConfig(
        r=0,
        oft_block_size=config.block,
        module_dropout=config.dropout,
        target_modules=layers.chosen(model, config.targets),
    )
    return layers.attach(model, wanted, seed, config.from_)
