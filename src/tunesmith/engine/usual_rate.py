"""A learning rate for a base and an adapter, with where it comes from: `learning_rate: auto`.

    rate = 5e-5 * (2000 / width) ^ p * multiple

LoRA Without Regret (Schulman and Thinking Machines Lab, 2025): sweeps over 14 Llama and Qwen models
with AdamW. `multiple` is 1 for full fine-tuning and 10 for LoRA of every rank, in a scale of
32 / rank; an adapter file says its own. Widths below 2,000 are outside of what was swept: there the
formula is extrapolated.
"""

from dataclasses import dataclass
from types import ModuleType

from tunesmith.config.section import Section
from tunesmith.models.shape import Shape

BASE, WIDTH = 5e-5, 2000
EXPONENTS = {"llama": 0.781, "qwen2": 0.0775, "qwen3": 0.0775}
"""How the best rate falls with the width, by model type."""
OTHER = 0.0775
"""For types that were not swept: the smaller exponent, which stays nearer to BASE."""
SOURCE = "LoRA Without Regret (Schulman and Thinking Machines Lab, 2025)"


@dataclass(frozen=True, slots=True)
class UsualRate:
    """A rate, and a sentence on where it comes from."""

    value: float
    source: str


def usual_rate(adapter: ModuleType, config: Section, shape: Shape) -> UsualRate:
    """The rate for an adapter on a base of this shape.

    Args:
        adapter: The adapter file; where it has no `multiple`, its LEARNING_RATE is taken.
        config: Its keys.
        shape: Of the base.

    Returns:
        The rate, rounded to two digits: more would claim too much.
    """
    if not hasattr(adapter, "multiple"):
        name = adapter.__name__.rpartition(".")[2]
        return UsualRate(adapter.LEARNING_RATE, f"the usual rate of adapter {name}")
    power, multiple = EXPONENTS.get(shape.model_type, OTHER), adapter.multiple(config)
    rate = BASE * (WIDTH / shape.width) ** power * multiple
    swept = "" if shape.model_type in EXPONENTS else ", a type that was not swept"
    source = (
        f"{SOURCE}: {BASE:g} x ({WIDTH} / {shape.width})^{power:g} x {multiple:.3g} "
        f"for {shape.model_type}{swept}"
    )
    return UsualRate(float(f"{rate:.2g}"), source)
