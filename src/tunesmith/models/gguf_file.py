"""A GGUF file as a base: its weights unpacked to floats, its tokenizer rebuilt.

Reading is left to transformers. Three things that it gets wrong, or slowly, are put right here:
settings that lost digits in float32, pre-tokenizers that it does not know, and repeated parsing.
"""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import cache
from io import StringIO
from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.integrations.gguf import read_gguf_metadata
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from tunesmith.errors import ModelError

GPT2_PRE = frozenset({"gpt-2", "mpt", "olmo", "jais", "trillion", "exaone4", "granite-docling"})
"""Values of `tokenizer.ggml.pre` that cut text as GPT-2 does, which transformers does too."""

DIGITS_PRE = frozenset(
    {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
)
"""Those that first put every digit by itself (llama.cpp, src/llama-vocab.cpp)."""


def load_model(path: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, dict]:
    """The model of a GGUF file with every weight unpacked to `dtype`.

    Args:
        path: The file.
        dtype: Of the weights; settings of a quantised block are never kept.

    Returns:
        The model, and transformers' account of keys that were missing or unexpected.

    Raises:
        ValueError: An architecture or block type that transformers cannot read.
    """
    # transformers draws a bar of its own here that no setting turns off
    with _parsed_once(), redirect_stderr(StringIO()):
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
        _restore_digits(config)
        model, info = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            config=config,
            # without this, transformers would fetch compute kernels from the hub where it can
            quantization_config=GgufConfig(dequantize=True),
            dtype=dtype,
            attn_implementation="sdpa",
            local_files_only=True,
            output_loading_info=True,
        )
    return model, info


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer that a GGUF file describes.

    Raises:
        ModelError: Its way of cutting text is not known here, so that its tokens could differ from
            those that the model was trained on.
    """
    metadata, _ = read_gguf_metadata(str(path))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path.parent, gguf_file=path.name)
    if metadata.get("tokenizer.ggml.model") != "gpt2":
        return tokenizer
    pre = metadata.get("tokenizer.ggml.pre")
    if pre in DIGITS_PRE:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
            ]
        )
    elif pre not in GPT2_PRE and pre not in GGUF_PRE_TOKENIZER_SPLITS:
        raise ModelError(
            f"{path}: tokenizer.ggml.pre",
            got=repr(pre),
            expected="a way of cutting text into words that is known here",
            hint="use the safetensors folder of the same model, which carries its tokenizer",
        )
    return tokenizer


def _restore_digits(config: PreTrainedConfig) -> None:
    """Undo float32 in the settings: 9.999999747378752e-06 was written as 1e-05."""
    for key, value in config.to_dict().items():
        if isinstance(value, float):
            setattr(config, key, _shortest(value))


def _shortest(value: float) -> float:
    """The number with the fewest digits that has the same float32; `value` if it is no float32."""
    rounded = np.float32(value)
    return float(str(rounded)) if float(rounded) == value else value


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Parse the file once while inside.

    transformers parses it again for every question, and asks gguf for the same table of names once
    per module of the model. For the starter this halves the time.
    """
    reader, table = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = cache(reader), cache(table)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = reader, table
