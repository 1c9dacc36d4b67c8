"""LoKr: the update is a Kronecker product, one factor of it low-rank.

    W' = W + (alpha / rank) C (x) (B A),   C small and whole, B A of the rest of the shape

KronA, arXiv:2212.10650, as used in arXiv:2309.14859, section 3; structure, start and file
format are PEFT's.
"""

from typing import Literal

from peft import LoKrConfig
from pydantic import Field
from transformers import PreTrainedModel

from tunesmith.adapters.base import Attached
from tunesmith.adapters.parts import layers
from tunesmith.adapters.parts.files import saved, write
from tunesmith.adapters.parts.keys import From, Targets
from tunesmith.config.section import Section

__all__ = ["Config", "attach", "saved", "write"]

LEARNING_RATE = 9e-3
"""Measured on the starter, 40 steps of 8 E2E rows (docs/methods.md): held-out loss 2.00 at 3.3e-4,
1.72 at 1e-3, 1.53 at 3e-3, 1.41 at 9e-3, 1.38 at 2.7e-2; the lowest that is near the best, since
longer runs want less."""
TRAINS_BASE = False
FOLDER = "adapter"


class Config(Section):
    """Keys of `adapter` with `name: lokr`."""

    name: Literal["lokr"] = "lokr"
    """Train Kronecker products with a low-rank factor."""
    rank: int = Field(16, ge=1)
    """Rank of each factor."""
    alpha: int | None = Field(None, ge=1)
    """Updates are scaled by alpha / rank; left out, alpha is the rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Probability of dropping a row of the update while training."""
    factor: int = Field(-1, ge=-1)
    """Largest size of the small factor; -1 makes both factors as equal as they can be."""
    targets: Targets = "auto"
    from_: From = None

    @property
    def reads_base(self) -> bool:
        """PEFT takes the shape of the update from the weight, which a packed one does not have."""
        return True


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """Put an update beside each target; what is drawn is drawn from `seed`.

    Raises:
        RecipeError: A target that matches no linear layer of the base, or numbers that PEFT
            refuses.
    """
    wanted = LoKrConfig(
        r=config.rank,
        alpha=config.rank if config.alpha is None else config.alpha,
        rank_dropout=config.dropout,
        decompose_factor=config.factor,
        target_modules=layers.chosen(model, config.targets),
    )
    return layers.attach(model, wanted, seed, config.from_)
