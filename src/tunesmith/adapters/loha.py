"""LoHa: the update is the elementwise product of two low-rank ones.

    W' = W + (alpha / rank) (B_1 A_1) o (B_2 A_2),   of rank up to rank^2; B_2 zero at the start

FedPara, arXiv:2108.06098, proposition 1, as used in arXiv:2309.14859, section 3; structure,
start and file format are PEFT's.
"""

from typing import Literal

from peft import LoHaConfig
from pydantic import Field
from transformers import PreTrainedModel

from tunesmith.adapters.base import Attached
from tunesmith.adapters.parts import layers
from tunesmith.adapters.parts.files import saved, write
from tunesmith.adapters.parts.keys import From, Targets
from tunesmith.config.section import Section

__all__ = ["Config", "attach", "saved", "write"]

LEARNING_RATE = 9e-3
"""Measured on the starter, 40 steps of 8 E2E rows (docs/methods.md): held-out loss 2.22 at 3.3e-4,
1.81 at 1e-3, 1.52 at 3e-3, 1.39 at 9e-3, 1.38 at 2.7e-2; the lowest that is near the best, since
longer runs want less."""
TRAINS_BASE = False
FOLDER = "adapter"


class Config(Section):
    """Keys of `adapter` with `name: loha`."""

    name: Literal["loha"] = "loha"
    """Train elementwise products of two low-rank updates."""
    rank: int = Field(16, ge=1)
    """Rank of each factor."""
    alpha: int | None = Field(None, ge=1)
    """Updates are scaled by alpha / rank; left out, alpha is the rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Probability of dropping a row of the update while training."""
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
    wanted = LoHaConfig(
        r=config.rank,
        alpha=config.rank if config.alpha is None else config.alpha,
        rank_dropout=config.dropout,
        target_modules=layers.chosen(model, config.targets),
    )
    return layers.attach(model, wanted, seed, config.from_)
