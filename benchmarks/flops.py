"""What a step must compute at least: products of matrices, counted from the shapes of the base.

    layers      2 N_l forward, as much for the gradient of the input, as much again for that of a
                trained weight: 4 N_l with LoRA, 6 N_l in full, for every token
    head        the same with N_h, only at the positions that carry loss
    attention   A(T) = 2 T heads head_size layers a token forward (two products over an average
                context of T / 2), 3 A(T) with the backward pass
    LoRA        6 N_lora

Elementwise work, the optimizer and anything computed twice are left out, so the limit is one that
no implementation reaches.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Shapes:
    """The products of one decoder, from its config.

    Attributes:
        linears: (outputs, inputs) of each linear layer of one block.
        num_layers: Blocks.
        vocabulary: Rows of the head.
        width: Of the hidden states.
        attention_width: Heads times size of a head.
    """

    linears: tuple[tuple[int, int], ...]
    num_layers: int
    vocabulary: int
    width: int
    attention_width: int

    @property
    def layer_weights(self) -> int:
        """N_l: weights in the linear layers of all blocks."""
        return self.num_layers * sum(outputs * inputs for outputs, inputs in self.linears)

    @property
    def head(self) -> tuple[int, int]:
        """(outputs, inputs) of the head."""
        return self.vocabulary, self.width

    @property
    def head_weights(self) -> int:
        """N_h: weights of the head."""
        return self.vocabulary * self.width

    def lora_weights(self, rank: int) -> int:
        """N_lora: weights of updates of `rank` beside every linear layer of the blocks."""
        return self.num_layers * rank * sum(sum(linear) for linear in self.linears)

    def attention(self, length: int) -> int:
        """A(T): operations of attention a token in the forward pass, for an example of `length`."""
        return 2 * length * self.attention_width * self.num_layers


def read_shapes(base: Path) -> Shapes:
    """The shapes of a Llama-like base (Llama, Qwen, Mistral, SmolLM2) from its config.json."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    width, heads = config["hidden_size"], config["num_attention_heads"]
    size = config.get("head_dim") or width // heads
    pairs = (config.get("num_key_value_heads") or heads) * size
    inner = config["intermediate_size"]
    return Shapes(
        linears=(
            (heads * size, width),
            (pairs, width),
            (pairs, width),
            (width, heads * size),
            (inner, width),
            (inner, width),
            (width, inner),
        ),
        num_layers=config["num_hidden_layers"],
        vocabulary=config["vocab_size"],
        width=width,
        attention_width=heads * size,
    )


@dataclass(frozen=True, slots=True)
class Work:
    """Floating-point operations of forward and backward, by the matrices they are products with.

    Attributes:
        linears: Of each (outputs, inputs) of the layers.
        head: Of the head.
        rest: Attention and the LoRA updates.
    """

    linears: dict[tuple[int, int], float]
    head: float
    rest: float

    @property
    def total(self) -> float:
        """All of them; a multiplication and an addition are two."""
        return sum(self.linears.values()) + self.head + self.rest


def operations(shapes: Shapes, rows: Sequence[tuple[int, int]], adapter: str, rank: int) -> float:
    """Floating-point operations of forward and backward over some rows; arguments as of `work`."""
    return work(shapes, rows, adapter, rank).total


def work(shapes: Shapes, rows: Sequence[tuple[int, int]], adapter: str, rank: int) -> Work:
    """What must be computed for some rows.

    Args:
        shapes: Of the base.
        rows: (tokens, trained tokens) of each row.
        adapter: `lora` or `full`.
        rank: Of the LoRA updates.
    """
    passes = 4 if adapter == "lora" else 6
    tokens = sum(length for length, _ in rows)
    trained = sum(count for _, count in rows)
    linears: dict[tuple[int, int], float] = {}
    for outputs, inputs in shapes.linears:
        weights = shapes.num_layers * outputs * inputs
        before = linears.get((outputs, inputs), 0.0)
        linears[outputs, inputs] = before + passes * tokens * weights
    updates = 6 * shapes.lora_weights(rank) if adapter == "lora" else 0
    attention = sum(3 * length * shapes.attention(length) for length, _ in rows)
    return Work(linears, passes * trained * shapes.head_weights, tokens * updates + attention)
