"""Writes a model, its tokenizer and its chat template as one GGUF file."""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, LlamaFileType
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from tunesmith.errors import RunError
from tunesmith.export.gguf_names import family_of, head_dim, rope_base, tensors
from tunesmith.export.gguf_vocabulary import Vocabulary

TYPES: dict[str, tuple[GGMLQuantizationType, LlamaFileType]] = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
"""How matrices are stored, by the name of `--type`; vectors always stay f32."""

QUANTIZATION_VERSION = 2
"""Of ggml's block formats (GGML_QNT_VERSION); readers refuse quantised files without it."""


@dataclass(frozen=True, slots=True)
class About:
    """What the file says about itself.

    Attributes:
        name: Of the model.
        base: Name or hub id of the base.
        licence: As SPDX names it, in lower case; empty when it is not known.
    """

    name: str
    base: str = ""
    licence: str = ""


def write(
    model: PreTrainedModel, vocabulary: Vocabulary, path: Path, stored: str, about: About
) -> None:
    """Write the whole file; memory holds the model and one tensor more.

    Args:
        model: In fp32, without adapters.
        vocabulary: Of its tokenizer.
        path: The file to make.
        stored: A key of `TYPES`.
        about: What to say about it.

    Raises:
        ModelError: A model that GGUF cannot hold.
        RunError: Weights too large for f16.
        OSError: The disk refused.
    """
    writer = gguf.GGUFWriter(path, family_of(model.config).architecture)
    kind, file_type = TYPES[stored]
    _add_about(writer, about, file_type)
    _add_shape(writer, model.config, len(vocabulary.tokens))
    _add_vocabulary(writer, vocabulary)
    laid_out = [(name, tensor, _kind_for(tensor, kind)) for name, tensor in tensors(model)]
    for name, tensor, chosen in laid_out:
        block, num_bytes = gguf.GGML_QUANT_SIZES[chosen]
        writer.add_tensor_info(
            name,
            tuple(tensor.shape),
            np.dtype(np.float32),  # the type on disk is the last argument
            tensor.numel() // block * num_bytes,
            chosen,
        )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor, chosen in laid_out:
            writer.write_tensor_data(_packed(name, tensor, chosen))
    finally:
        writer.close()


def _kind_for(tensor: Tensor, kind: GGMLQuantizationType) -> GGMLQuantizationType:
    """Vectors stay f32; rows that do not fall into whole blocks become f16, as llama.cpp has it."""
    if tensor.ndim == 1:
        return GGMLQuantizationType.F32
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    return GGMLQuantizationType.F16 if tensor.shape[-1] % block else kind


def _packed(name: str, tensor: Tensor, kind: GGMLQuantizationType) -> np.ndarray:
    values = tensor.to("cpu", torch.float32).contiguous().numpy()
    if kind == GGMLQuantizationType.F16 and np.abs(values).max() > np.finfo(np.float16).max:
        raise RunError(
            f"export to GGUF: {name}",
            got=f"a weight of {np.abs(values).max():.3g}, which f16 cannot hold",
            expected=f"at most {np.finfo(np.float16).max:g}",
            hint="export with --type bf16 or f32",
        )
    return gguf.quantize(values, kind)


def _add_about(writer: gguf.GGUFWriter, about: About, file_type: LlamaFileType) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(about.name)
    if about.licence:
        writer.add_license(about.licence)
    if about.base:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, about.base)
    writer.add_tags(["tunesmith"])
    writer.add_file_type(file_type)
    writer.add_quantization_version(QUANTIZATION_VERSION)


def _add_shape(writer: gguf.GGUFWriter, config: PreTrainedConfig, num_tokens: int) -> None:
    width = head_dim(config)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(rope_base(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(num_tokens)


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    for part, token in vocabulary.special.items():
        writer.add_uint32(f"tokenizer.ggml.{part}_token_id", token)
    writer.add_add_bos_token(vocabulary.adds_bos)
    if vocabulary.chat_template:
        writer.add_chat_template(vocabulary.chat_template)
