"""Reads a GGUF file back as its users will: by llama.cpp where that is installed.

Otherwise transformers reads it, which unpacks all weights to fp32: that proves names, layout,
settings and tokenizer, and shows what rounding the weights costs, but not llama.cpp's arithmetic.
"""

from importlib.util import find_spec
from pathlib import Path

import gguf
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig, PreTrainedModel

from tunesmith.export.asked import Asked, Reply, of_model, reply
from tunesmith.export.gguf_names import ROPE_FREQUENCIES
from tunesmith.models.gguf_file import load_tokenizer

LLAMA_CPP = "llama.cpp"
BY_TRANSFORMERS = "transformers, weights unpacked to fp32"


def file_in(folder: Path) -> Path | None:
    """The GGUF file in a folder; None when there is none."""
    return next(iter(sorted(folder.glob("*.gguf"))), None)


def replies(path: Path, asked: Asked) -> tuple[Reply, str]:
    """The replies of the model in a GGUF file, and the name of what read it."""
    if find_spec("llama_cpp"):
        return _by_llama_cpp(path, asked), LLAMA_CPP
    tokenizer = load_tokenizer(path)

    def tokenize(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    return of_model(load_model(path), tokenize, asked), BY_TRANSFORMERS


def load_model(path: Path) -> PreTrainedModel:
    """The model as transformers reads it, with what transformers leaves unread of the file."""
    file = gguf.GGUFReader(path)
    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    architecture = file.get_field("general.architecture").contents()
    config.head_dim = int(file.get_field(f"{architecture}.attention.key_length").contents())
    model, info = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        config=config,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        local_files_only=True,
        output_loading_info=True,
    )
    if lost := info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
        raise ValueError(f"missing or unexpected tensors: {sorted(map(str, lost))[:3]}")
    for tensor in file.tensors:
        if tensor.name == ROPE_FREQUENCIES:
            rotary = model.model.rotary_emb
            rotary.inv_freq = rotary.inv_freq / torch.tensor(tensor.data)
    return model.eval()


def _by_llama_cpp(path: Path, asked: Asked) -> Reply:
    from llama_cpp import GGML_TYPE_F32, Llama

    longest = max(len(ids) for ids in [*asked.sequences, *(ids for ids, _ in asked.rows)])
    model = Llama(
        str(path),
        n_ctx=longest + 1,
        n_batch=longest + 1,
        n_ubatch=longest + 1,
        n_threads=torch.get_num_threads(),
        logits_all=True,
        # Its default of f16 for keys and values is a choice of whoever serves, not of the file.
        type_k=GGML_TYPE_F32,
        type_v=GGML_TYPE_F32,
        verbose=False,
    )

    def logits_of(ids: list[int]) -> Tensor:
        model.reset()
        model.eval(ids)
        return torch.from_numpy(model.scores[: len(ids)].copy())

    def tokenize(text: str) -> list[int]:
        return model.tokenize(text.encode(), add_bos=False, special=True)

    return reply(logits_of, tokenize, asked)
