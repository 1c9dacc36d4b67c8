"""VeRA: one random pair of matrices, frozen and shared by all layers; two vectors each are trained.

    W' = W + diag(b) B diag(d) A,   A and B drawn once; d (rank,) begins as 0.1, b (outputs,) as 0

VeRA, arXiv:2310.11454, eq. 2; structure, start and file format are PEFT's. A and B are saved too,
so that the adapter does not depend on a generator of random numbers.
"""

from typing import Literal

from peft import VeraConfig
from pydantic import Field
from transformers import PreTrainedModel

from tunesmith.adapters.base import Attached
from tunesmith.adapters.parts import layers
from tunesmith.adapters.parts.files import saved, write
from tunesmith.adapters.parts.keys import From, Targets
from tunesmith.config.section import Section

__all__ = ["Config", "attach", "saved", "write"]

LEARNING_RATE = 3.6e-2
"""Measured on the starter, 40 steps of 8 E2E rows (docs/methods.md): held-out loss 2.24 at 1.3e-3,
1.92 at 4e-3, 1.63 at 1.2e-2, 1.45 at 3.6e-2, 1.38 at 0.11, the last one tried; the one before it,
since longer runs want less. The paper has 4e-3 for instruction tuning (arXiv:2310.11454)."""
TRAINS_BASE = False
FOLDER = "adapter"


class Config(Section):
    """Keys of `adapter` with `name: vera`."""

    name: Literal["vera"] = "vera"
    """Train two vectors for each layer beside a shared random pair of matrices."""
    rank: int = Field(256, ge=1)
    """Rank of the shared pair; it costs no trained matrices, so it is high."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Probability of dropping an input of the update while training."""
    targets: Targets = "auto"
    from_: From = None


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """Put the vectors beside each target; the shared pair is drawn from `seed`.

    Raises:
        RecipeError: A target that matches no linear layer of the base, or numbers that PEFT
            refuses.
    """
    wanted = VeraConfig(
        r=config.rank,
        vera_dropout=config.dropout,
        target_modules=layers.chosen(model, config.targets),
        projection_prng_key=seed,
    )
    return layers.attach(model, wanted, seed, config.from_)
