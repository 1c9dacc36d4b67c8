"""What is measured on a GPU: shapes of known models with random weights, nothing downloaded.

Standard library alone, so that a peer's own environment can read it.
"""

from dataclasses import dataclass
from typing import Any

_EIGHT = {
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": False,
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": _EIGHT
    | {
        "model_type": "llama",
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "vocab_size": 128256,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 131072,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    },
    "qwen3-8b": _EIGHT
    | {
        "model_type": "qwen3",
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "vocab_size": 151936,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 40960,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    },
    "tiny": {
        "model_type": "qwen3",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 320,
        "tie_word_embeddings": False,
        "max_position_embeddings": 512,
    },
}
"""Keys of the config of transformers. Long-context scaling of positions is left out: it costs no
time."""

WAYS = ("lora", "qlora", "fp8", "full")
"""bf16 base; base in NF4; base in FP8 for both products; every weight trained."""
RANK, ALPHA = 16, 32
SIDES = ("tunesmith", "trl", "trl-liger")
"""TRL with PEFT, without activation checkpointing; the last with Liger's kernels as well."""
WARM_UP_STEPS = 2
"""Steps before the timed ones: compilation and the allocator settle in them."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run in a process of its own.

    Attributes:
        shape: A key of `SHAPES`.
        way: One of `WAYS`.
        length: Tokens of each example; all are labelled.
        side: One of `SIDES`.
        num_examples: Of one forward pass, which is one step.
        num_steps: Timed ones.
    """

    shape: str
    way: str
    length: int
    side: str
    num_examples: int
    num_steps: int

    @property
    def tokens_per_step(self) -> int:
        """Of one forward pass."""
        return self.length * self.num_examples

    @property
    def adapter(self) -> str:
        """`lora` or `full`."""
        return "full" if self.way == "full" else "lora"


def cases(
    shapes: list[str],
    ways: list[str],
    lengths: list[int],
    sides: list[str],
    tokens: int,
    num_steps: int,
) -> list[Case]:
    """Every combination that there is; TRL is measured on bf16 LoRA and full fine-tuning."""
    return [
        Case(shape, way, length, side, max(tokens // length, 1), num_steps)
        for shape in shapes
        for length in lengths
        for way in ways
        for side in sides
        if side == "tunesmith" or way in ("lora", "full")
    ]
