"""Trained models in miniature for tests of exports, of each family that GGUF is written for."""

from copy import deepcopy
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from tunesmith.adapters import lora
from tunesmith.export.forms import Artefact
from tunesmith.export.gguf_writer import About
from tunesmith.export.reload import Holding
from tunesmith.export.trained import Shown, Trained, ask_trained, load_trained
from tunesmith.models.load import load, quiet
from tunesmith.models.resolve import resolve
from tunesmith.testing.architectures import SCALE, SHAPE
from tunesmith.testing.tiny_bpe import bpe_tokenizer

_SHAPE = {**SHAPE, "hidden_size": 64, "head_dim": 16}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_WIDE = {"head_dim": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}}
_LINEAR = {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}}

CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**_SHAPE, tie_word_embeddings=False),
    "llama tied": LlamaConfig(**_SHAPE, tie_word_embeddings=True),
    "llama wide heads": LlamaConfig(**_SHAPE | _WIDE),
    "llama 3 rotation": LlamaConfig(**_SHAPE, rope_parameters=_LLAMA3),
    "llama linear rotation": LlamaConfig(**_SHAPE | _LINEAR),
    "mistral": MistralConfig(**_SHAPE, sliding_window=None),
    "qwen2": Qwen2Config(**_SHAPE, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**_SHAPE | {"head_dim": 24}),
}
CUTS = {"llama": "smollm", "llama tied": "gpt-2", "mistral": "tekken"}
"""How the tokenizer of a model cuts text, where it is not the usual way of its family."""

PROMPTS = [[i * 7 % 290 for i in range(3, 40)], [5, 6, 7]]
ROW = ([1, 2, 3, 4], [False, False, True, True])
TEXTS = ["Hello 1234, it's the cat's mat\n\n  x", "Grüße 世界 🎉 <|im_start|>user\nx<|im_end|>"]
SHOWN = Shown(PROMPTS, [ROW], TEXTS)


def random_model(name: str) -> PreTrainedModel:
    """A model of `CONFIGS` whose attention matters; the same bits each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(deepcopy(CONFIGS[name])).float().eval()
        embedding = model.get_input_embeddings().weight
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
                elif parameter is not embedding:
                    parameter.mul_(SCALE)
    model.generation_config = GenerationConfig(eos_token_id=291)
    return model


def whole_model(folder: Path, name: str) -> Path:
    """The folder that a full fine-tuning leaves."""
    with quiet():
        random_model(name).save_pretrained(folder)
    cut = CUTS.get(name, "qwen2" if name.startswith("qwen") else "llama-bpe")
    bpe_tokenizer(cut).save_pretrained(folder)
    return folder


def adapter(folder: Path, name: str) -> Path:
    """The folder that LoRA leaves, over a base beside it."""
    base = load(resolve(str(whole_model(folder.with_name("base"), name)), None), torch.float32)
    attached = lora.attach(base.model, lora.Config(rank=4), seed=0)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for parameter in attached.trained.values():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    folder.mkdir()
    lora.write(attached, folder, str(folder.with_name("base")))
    base.tokenizer.save_pretrained(folder)
    return folder


def trained(folder: Path, quantized: Holding | None = None) -> tuple[Trained, Artefact]:
    """A folder of the above as `ship` gets it."""
    with quiet():
        model = load_trained(folder, quantized)
        asked = ask_trained(model, folder, SHOWN, quantized)
    return asked, Artefact(folder, About("tiny", "tiny-base", "mit"))
