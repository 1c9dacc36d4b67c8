"""Random bases of two layers in the shapes of the families that users train, plain or with LoRA."""

from copy import deepcopy

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

NUM_VOCABULARY = 320
WINDOW = 8
"""Of the families whose layers have a sliding window."""

_COMMON = {
    "vocab_size": NUM_VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "dtype": "float32",
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
_GPT2 = {
    "vocab_size": NUM_VOCABULARY,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "bos_token_id": None,
    "eos_token_id": None,
}

BASES: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**_COMMON, tie_word_embeddings=True),
    "llama with biases": LlamaConfig(**_COMMON, attention_bias=True, mlp_bias=True),
    "qwen2": Qwen2Config(**_COMMON),
    "qwen3": Qwen3Config(**_COMMON, head_dim=16),
    "mistral": MistralConfig(**_COMMON, sliding_window=WINDOW),
    "gemma": GemmaConfig(**_COMMON, head_dim=16),
    "gemma3": Gemma3TextConfig(**_COMMON, head_dim=16, sliding_window=WINDOW),
    "phi3": Phi3Config(**_COMMON),
    "gpt2": GPT2Config(**_GPT2),
}


def random_base(name: str) -> PreTrainedModel:
    """A base of `BASES` in fp32 and eval mode, the same bits each time.

    Norms and biases are moved off 1 and 0: ones that do nothing would prove nothing.
    """
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(deepcopy(BASES[name])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def lora_base(
    name: str = "llama", dtype: torch.dtype = torch.float32, **options: object
) -> PreTrainedModel:
    """A base of `BASES` with LoRA on all linear layers, in fp32 and far from zero.

    Args:
        name: Of the base.
        dtype: Of the base's own weights, which are frozen.
        **options: Keys of PEFT's `LoraConfig` to set otherwise.
    """
    model = random_base(name).to(dtype)
    model.requires_grad_(False)
    fan = {"fan_in_fan_out": True} if name == "gpt2" else {}
    keys = {"r": 4, "lora_alpha": 12, "target_modules": "all-linear"} | fan | options
    for part, parameter in get_peft_model(model, LoraConfig(**keys)).named_parameters():
        if "lora_B" in part:
            torch.nn.init.normal_(parameter, std=0.1)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model
