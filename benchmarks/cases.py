"""What is measured: the cases, each a base, rows, an adapter and a method."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

RowShape = Literal["ragged", "long", "short-answers", "pairs"]

MAX_TOKENS = 2048
"""Longest row of any case, in tokens."""
RANK, ALPHA = 16, 32
WARM_UP_STEPS = 1
"""Optimizer steps before the timed ones: caches, allocator and lazy compilation settle in them."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to train, the same for every side.

    Attributes:
        name: As given to `--cases`.
        title: For people.
        shape: Row shape; `benchmarks.rows` says how each is made.
        rows_per_step: Rows of an optimizer step.
        adapter: `lora` (rank 16, alpha 32, all linear layers of the blocks) or `full`.
        quantize: How the frozen base is held.
        method: `sft` or `dpo`.
        learning_rate: Constant, no warmup.
        other_base: Whether it is measured on the base that `--base` names, not on the starter.
        max_steps: Most timed steps, for cases in which a step takes minutes on some side.
    """

    name: str
    title: str
    shape: RowShape = "ragged"
    rows_per_step: int = 8
    adapter: Literal["lora", "full"] = "lora"
    quantize: Literal["none", "int8", "nf4"] = "none"
    method: Literal["sft", "dpo"] = "sft"
    learning_rate: float = 2e-4
    other_base: bool = False
    max_steps: int = 1000

    def num_steps(self, timed: int) -> int:
        """Optimizer steps of a run with so many timed ones."""
        return WARM_UP_STEPS + min(timed, self.max_steps)

    def job(self, base: Path, rows: Path, timed: int) -> dict[str, Any]:
        """What every side is asked to do; `sides/steps.py` explains the keys."""
        return {
            "case": self.name,
            "base": str(base),
            "rows": str(rows),
            "steps": self.num_steps(timed),
            "rows_per_step": self.rows_per_step,
            "adapter": self.adapter,
            "rank": RANK,
            "alpha": ALPHA,
            "quantize": self.quantize,
            "method": self.method,
            "learning_rate": self.learning_rate,
            "max_tokens": MAX_TOKENS,
        }


_ALL = (
    Case("lora", "LoRA, ragged short rows"),
    Case("full", "Full fine-tuning, ragged short rows", adapter="full", learning_rate=2e-5),
    Case("lora-long", "LoRA, rows of 2,048 tokens", shape="long", rows_per_step=1),
    Case(
        "lora-short-answers",
        "LoRA, long prompts with short answers",
        shape="short-answers",
        rows_per_step=4,
    ),
    Case("qlora-nf4", "LoRA on a 4-bit (NF4) base, ragged short rows", quantize="nf4"),
    Case("qlora-int8", "LoRA on an 8-bit base, ragged short rows", quantize="int8"),
    Case(
        "dpo",
        "DPO with LoRA, ragged pairs",
        shape="pairs",
        rows_per_step=4,
        method="dpo",
        learning_rate=5e-5,
    ),
    Case("other-lora", "LoRA on --base", rows_per_step=2, other_base=True, max_steps=2),
    Case(
        "other-nf4",
        "LoRA on --base in 4 bits (NF4)",
        rows_per_step=2,
        quantize="nf4",
        other_base=True,
        max_steps=2,
    ),
)

CASES = {case.name: case for case in _ALL}
"""By name, in the order in which they are measured."""


def default_cases(has_base: bool) -> list[str]:
    """All cases; those on another base only where one is named."""
    return [case.name for case in _ALL if has_base or not case.other_base]
