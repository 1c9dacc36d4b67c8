"""The recipe's `model` section."""

from typing import Literal

from tunesmith.config.section import Section


class ModelSection(Section):
    """Which base a run starts from, and how it is held in memory."""

    base: str
    """`starter`, a local folder, a .gguf file, or a hub id such as org/name."""
    revision: str | None = None
    """Commit, tag or branch of a hub id; the commit it resolves to is recorded."""
    quantize: Literal["none", "int8", "nf4"] = "none"
    """How frozen weights of the blocks are held: int8 with int8 products, a byte each; nf4, about
    half a byte each, for memory, with the extra `quant`. Not with an adapter that trains them."""
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """Type of frozen weights; auto follows train.precision. Trained weights are always fp32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
