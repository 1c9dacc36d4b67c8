"""Random tiny models of several architectures, each with the parts that make it different."""

from collections.abc import Callable

import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)

from tunesmith.testing.tiny import tiny_model

SHAPE = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
SCALE = 6.0
WINDOW = 8
"""Shorter than the prompts and answers of the tests."""


def _sliding(**more: object) -> dict[str, object]:
    kinds = ["sliding_attention", "full_attention"]
    return SHAPE | {"sliding_window": WINDOW, "layer_types": kinds} | more


def _mixture() -> dict[str, object]:
    return {"num_local_experts": 2, "num_experts_per_tok": 1}


DIRECT: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: tiny_model(seed=1, eos_token_id=None, pad_token_id=None),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "qwen2-sliding": lambda: Qwen2ForCausalLM(Qwen2Config(**_sliding(use_sliding_window=True))),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=WINDOW)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SHAPE)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**_sliding())),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=320,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=256,
            bos_token_id=None,
            eos_token_id=None,
        )
    ),
}
"""Models that generate without padding."""

OTHER: dict[str, Callable[[], PreTrainedModel]] = {
    # Soft-capped logits.
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**_sliding())),
    # A learned sink in every row of attention.
    "gpt-oss": lambda: GptOssForCausalLM(GptOssConfig(**_sliding(), **_mixture())),
    # Positions as a bias, through an attention of its own.
    "bloom": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=320, hidden_size=32, n_layer=2, n_head=4)
    ),
    # Values of another width than keys.
    "deepseek-v3": lambda: DeepseekV3ForCausalLM(
        DeepseekV3Config(
            **(SHAPE | {"num_key_value_heads": 4, "head_dim": None}),
            q_lora_rank=16,
            kv_lora_rank=16,
            qk_nope_head_dim=8,
            qk_rope_head_dim=8,
            v_head_dim=12,
            first_k_dense_replace=2,
        )
    ),
    # Layers with a state instead of keys and values.
    "qwen3-next": lambda: Qwen3NextForCausalLM(
        Qwen3NextConfig(
            **SHAPE,
            layer_types=["linear_attention", "full_attention"],
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            num_experts=2,
            num_experts_per_tok=1,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
        )
    ),
}
"""Models that need more than causal attention, and so the padded session."""


def build(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The model in eval mode; its weights are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = (DIRECT | OTHER)[name]()
    # Random weights of the usual size make nearly flat attention, and then it hardly matters; with
    # larger embeddings a model would just say its last token again.
    embedding = model.get_input_embeddings().weight
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and parameter is not embedding:
                parameter.mul_(SCALE)
    model.generation_config = GenerationConfig()
    return model.to(dtype).eval()
