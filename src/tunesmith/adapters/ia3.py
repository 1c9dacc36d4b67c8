"""IA3: keys, values and the inner activations of the feed-forward layers are stretched.

    k' = l_k o k,   v' = l_v o v,   h' = l_f o h,   each l one at the start

(IA)^3, arXiv:2205.05638, section 3.3; structure, start and file format are PEFT's. A few thousand
numbers in all.
"""

from typing import Literal

from peft import IA3Config
from pydantic import Field
from transformers import PreTrainedModel

from tunesmith.adapters.base import Attached
from tunesmith.adapters.parts import layers
from tunesmith.adapters.parts.files import saved, write
from tunesmith.adapters.parts.keys import From
from tunesmith.config.section import Section

__all__ = ["Config", "attach", "saved", "write"]

LEARNING_RATE = 9e-3
"""Measured on the starter, 40 steps of 8 E2E rows (docs/methods.md): held-out loss 1.83 at 1e-3,
1.64 at 3e-3, 1.50 at 9e-3, 1.42 at 2.7e-2, 1.43 at 8.1e-2. The paper has 3e-3 for 1,000 steps of
Adafactor (arXiv:2205.05638, section 3.5); this lies between."""
TRAINS_BASE = False
FOLDER = "adapter"


class Config(Section):
    """Keys of `adapter` with `name: ia3`."""

    name: Literal["ia3"] = "ia3"
    """Stretch keys, values and inner activations by trained vectors."""
    targets: Literal["auto"] | list[str] = "auto"
    """auto: keys, values and the last product of the feed-forward layer, as PEFT names them for
    this model; or last name parts, such as [k_proj, v_proj, down_proj]."""
    feed_forward: list[str] = Field([])
    """Those of the named targets whose inputs are stretched, and not their outputs."""
    from_: From = None


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """Put a vector of ones at each target.

    Raises:
        RecipeError: A target that matches no linear layer of the base, or numbers that PEFT
            refuses.
    """
    named = config.targets != "auto"
    wanted = IA3Config(
        target_modules=layers.chosen(model, config.targets) if named else None,
        feedforward_modules=config.feed_forward if named else None,
    )
    return layers.attach(model, wanted, seed, config.from_)
