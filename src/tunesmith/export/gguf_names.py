"""Where each tensor of a model goes in a GGUF file, and which models can go there at all.

GGUF's names are those of its specification (ggml, docs/gguf.md). Models of the family `llama` are
rotated there by neighbours (i, i+1) instead of halves (i, i + d/2): the rows of the projections of
queries and keys change places accordingly, head by head.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from tunesmith.errors import ModelError

STATIC_ROPES = ("default", "linear", "llama3")
"""Kinds of rotary scaling whose frequencies are constants, which a table in the file can hold."""

OUTER = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
ROPE_FREQUENCIES = "rope_freqs.weight"
"""By what each frequency is divided; readers take ones where there is no such tensor."""

_IN_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")


@dataclass(frozen=True, slots=True)
class Family:
    """How models of one `model_type` are written.

    Attributes:
        architecture: Value of `general.architecture`.
        by_neighbours: Whether GGUF rotates neighbours where transformers rotates halves.
        scales_rope: Whether readers of this architecture look for a table of frequencies.
        biases: Whether readers expect biases beside the projections of attention.
    """

    architecture: str
    by_neighbours: bool = False
    scales_rope: bool = False
    biases: bool = False


FAMILIES = {
    "llama": Family("llama", by_neighbours=True, scales_rope=True),
    "mistral": Family("llama", by_neighbours=True, scales_rope=True),
    "qwen2": Family("qwen2", biases=True),
    "qwen3": Family("qwen3"),
}
"""By `model_type` of config.json. Of each a random model was written and read back."""


def family_of(config: PreTrainedConfig) -> Family:
    """The family of a model.

    Raises:
        ModelError: It has parts that GGUF, or those who read it, would leave out.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise refused(f"a base of type {config.model_type!r}", f"one of {', '.join(FAMILIES)}")
    windows = getattr(config, "use_sliding_window", True) and getattr(
        config, "sliding_window", None
    )
    if windows and windows < config.max_position_embeddings:
        raise refused(f"a sliding window of {windows} tokens", "attention over the whole context")
    if (getattr(config, "attention_bias", False) and not family.biases) or getattr(
        config, "mlp_bias", False
    ):
        raise refused("biases in its linear layers", f"a {config.model_type} without them")
    if config.hidden_act != "silu":
        raise refused(f"hidden_act {config.hidden_act!r}", "silu")
    kind = (config.rope_parameters or {}).get("rope_type", "default")
    if kind not in (STATIC_ROPES if family.scales_rope else ("default",)):
        raise refused(f"rotary scaling of type {kind!r}", f"default, for {config.model_type}")
    return family


def tensors(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the model under its name in GGUF, in the layout of GGUF.

    A head that is the embedding's own matrix is left out: readers take the embedding for it.

    Raises:
        ModelError: A tensor that has no place in the file.
    """
    family = family_of(model.config)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for name, tensor in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        yield _renamed(name), _laid_out(name, tensor.detach(), model.config, family)
    if factors := rope_factors(model):
        yield ROPE_FREQUENCIES, factors[0]


def rope_factors(model: PreTrainedModel) -> list[Tensor]:
    """By what the frequencies of the model are divided, (head_dim / 2,); empty when by nothing."""
    rotary = model.model.rotary_emb
    used = rotary.inv_freq.float().cpu()
    exponents = torch.arange(0, 2 * len(used), 2, dtype=torch.float32) / (2 * len(used))
    plain = 1.0 / rope_base(model.config) ** exponents
    return [] if torch.allclose(plain, used, rtol=1e-5) else [plain / used]


def rope_base(config: PreTrainedConfig) -> float:
    """The base of the rotary frequencies."""
    return float(config.rope_parameters["rope_theta"])


def head_dim(config: PreTrainedConfig) -> int:
    """Width of one head of attention."""
    given = getattr(config, "head_dim", None)
    return given or config.hidden_size // config.num_attention_heads


def _renamed(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in OUTER:
        return f"{OUTER[stem]}.{kind}"
    found = _IN_LAYER.fullmatch(stem)
    if found and found[2] in LAYER:
        return f"blk.{found[1]}.{LAYER[found[2]]}.{kind}"
    raise refused(f"a tensor {name!r}", "tensors that GGUF has a name for")


def _laid_out(name: str, tensor: Tensor, config: PreTrainedConfig, family: Family) -> Tensor:
    if not family.by_neighbours:
        return tensor
    if ".q_proj." in name:
        return by_neighbours(tensor, config.num_attention_heads)
    if ".k_proj." in name:
        return by_neighbours(tensor, config.num_key_value_heads)
    return tensor


def by_neighbours(tensor: Tensor, num_heads: int) -> Tensor:
    """Rows (heads x head_dim, ...) from rotating halves to rotating neighbours, in each head."""
    halves = tensor.reshape(num_heads, 2, tensor.shape[0] // num_heads // 2, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)


def refused(got: str, expected: str) -> ModelError:
    """The error for what cannot be written as GGUF."""
    return ModelError(
        "export to GGUF",
        got=got,
        expected=expected,
        hint="tunesmith export --to merged writes safetensors, which llama.cpp's own "
        "convert_hf_to_gguf.py may be able to read",
    )
