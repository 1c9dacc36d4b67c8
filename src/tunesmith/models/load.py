"""Loading a base into memory, and checking that what was loaded is what was published."""

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from tunesmith.errors import MachineError, ModelError, TunesmithError
from tunesmith.models import gguf_file
from tunesmith.models.base import Base, BaseSource
from tunesmith.models.quantize import NONE, quantize

_LOADING_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    ImportError,
    SafetensorError,
    StrictDataclassError,
    struct.error,
)
"""What transformers, safetensors and gguf raise over files that are damaged or not theirs."""


def load(source: BaseSource, dtype: torch.dtype, quantized: str = NONE) -> Base:
    """Load a base to the CPU, ready to compute and with nothing set to train.

    Tables that must stay exact (the frequencies of rotary positions) stay fp32 in any dtype. The
    embedding's `padding_idx` is cleared: where padding shares the id of the stop token, as in the
    starter, it would keep the stop token's embedding from ever learning.

    Args:
        source: From `resolve`.
        dtype: Of the weights.
        quantized: How the linear layers of the blocks are held: "none", "int8" or "nf4".

    Returns:
        The base, in eval mode, attention `sdpa`.

    Raises:
        ModelError: transformers cannot read it; a tensor is missing, unexpected, of another shape,
            or not finite; the tokenizer has ids that the embedding lacks.
        MachineError: Not enough memory.
    """
    with quiet(), _as_ours(source):
        model, info = _model(source, dtype)
        tokenizer = _tokenizer(source)
    _check_keys(source, info)
    _check_tied(source, model)
    _check_finite(source, model)
    _check_vocabulary(source, model, tokenizer)
    embedding = model.get_input_embeddings()
    if isinstance(embedding, nn.Embedding):
        embedding.padding_idx = None
    model.requires_grad_(False)
    model.eval()
    quantize(model, quantized)
    return Base(source, model, tokenizer, stop_ids(model, tokenizer))


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens that end an answer, from the tokenizer and the generation config; may be empty."""
    generation = getattr(model, "generation_config", None)  # Models that do not write have none.
    named = generation.eos_token_id if generation else None
    several = named if isinstance(named, list) else [named]
    return frozenset(int(i) for i in [tokenizer.eos_token_id, *several] if i is not None)


def _model(source: BaseSource, dtype: torch.dtype) -> tuple[PreTrainedModel, dict]:
    if source.gguf is not None:
        return gguf_file.load_model(source.path / source.gguf, dtype)
    return AutoModelForCausalLM.from_pretrained(
        source.path,
        dtype=dtype,
        attn_implementation="sdpa",
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=True,  # so that they are listed, and refused, by name
        output_loading_info=True,
    )


def _tokenizer(source: BaseSource) -> PreTrainedTokenizerBase:
    """The tokenizer, as its file says.

    The classes that AutoTokenizer picks rebuild the pre-tokenizer from their own defaults, and
    `GPT2Tokenizer` so drops the digit splitting that tokenizer.json of SmolLM2 asks for.
    """
    if source.gguf is not None:
        return gguf_file.load_tokenizer(source.path / source.gguf)
    if (source.path / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(source.path, local_files_only=True)
    return AutoTokenizer.from_pretrained(
        source.path, local_files_only=True, trust_remote_code=False
    )


def _check_keys(source: BaseSource, info: dict) -> None:
    """No tensor made up, left over, or of another shape: transformers would go on silently."""
    mismatched = [
        f"{name} {list(found)} instead of {list(wanted)}"
        for name, found, wanted in info["mismatched_keys"]
    ]
    faults = {
        "missing tensors": info["missing_keys"],
        "unexpected tensors": info["unexpected_keys"],
        "tensors of another shape": mismatched,
        "errors": info["error_msgs"],
    }
    for what, names in faults.items():
        if names:
            raise ModelError(
                str(source.path),
                got=f"{what}: {_listed(names)}",
                expected="exactly the tensors that config.json describes",
                hint="the weights and config.json are not of the same model, or a file is cut off",
            )


def _check_tied(source: BaseSource, model: PreTrainedModel) -> None:
    """A head that differs from an embedding it is said to share would be lost on saving."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if not model.config.tie_word_embeddings or head is None or head.weight is embedding.weight:
        return
    raise ModelError(
        f"{source.path}/config.json: tie_word_embeddings",
        got="true, but the head in the weights differs from the embedding",
        expected="one matrix for both, or false",
        hint="set tie_word_embeddings to false in a copy of the folder",
    )


def _check_finite(source: BaseSource, model: PreTrainedModel) -> None:
    bad = [name for name, tensor in model.named_parameters() if not _finite(tensor)]
    if bad:
        raise ModelError(
            str(source.path),
            got=f"NaN or infinity in {_listed(bad)}",
            expected="finite weights",
            hint="download or export the base again; fp16 copies of bf16 models often overflow",
        )


def _finite(tensor: Tensor) -> bool:
    """One pass and no copy: the extremes are NaN if any element is."""
    if tensor.numel() == 0:
        return True
    low, high = tensor.detach().aminmax()
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _check_vocabulary(
    source: BaseSource, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= rows:
        raise ModelError(
            str(source.path),
            got=f"a tokenizer with ids up to {highest} for an embedding of {rows} rows",
            expected="a row for every id",
            hint="the tokenizer and the weights are not of the same model",
        )


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - 5} more" if len(ordered) > 5 else ""
    return ", ".join(ordered[:5]) + more


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars and warnings away: what they tell is checked here and raised."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _as_ours(source: BaseSource) -> Iterator[None]:
    """Turn what transformers raises into errors that name the base."""
    try:
        yield
    except TunesmithError:
        raise
    except _LOADING_ERRORS as error:
        text = str(error).strip().split("\n")[0][:300]
        if isinstance(error, RuntimeError) and "alloc" in text and "memory" in text:
            raise MachineError(
                str(source.path),
                got=f"not enough memory for the weights ({text})",
                hint="choose a smaller base, or model.dtype: bf16",
            ) from error
        raise ModelError(
            str(source.path / (source.gguf or "")),
            got=f"files that transformers cannot load ({type(error).__name__}: {text})",
            expected="a causal language model",
        ) from error
    except MemoryError as error:
        raise MachineError(str(source.path), got="not enough memory for the weights") from error
