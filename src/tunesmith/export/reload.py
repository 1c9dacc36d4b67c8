"""Loads an artefact as a stranger would, in a process of its own, and answers with it.

Run as `python -m tunesmith.export.reload`; `stranger.py` starts it and hands it jobs. Only
transformers and PEFT touch the model here, none of Tunesmith's compute paths; where the base was
quantised in training, `models.quantize` holds it the same way. A GGUF file is read by llama.cpp
where `llama-cpp-python` is installed, and by transformers otherwise.
"""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.auto_factory import _BaseAutoModelClass
from transformers.utils import logging

from tunesmith.adapters.parts.reopening import reopen
from tunesmith.export import gguf_reader
from tunesmith.export.asked import Asked, Reply, of_model
from tunesmith.models.heads import widen
from tunesmith.models.quantize import NONE, quantize

TRANSFORMERS = "transformers"
"""What reads everything but GGUF."""
BY_TASK = {"SEQ_CLS": AutoModelForSequenceClassification, "FEATURE_EXTRACTION": AutoModel}
"""PEFT's names of what an adapter's base is."""


@dataclass(frozen=True, slots=True)
class Holding:
    """How the frozen weights of a base are held in memory."""

    dtype: torch.dtype
    quantize: str = NONE


def load_artefact(folder: Path, held: Holding) -> nn.Module:
    """The model of an adapter folder (with the base it names) or of a whole model's folder."""
    adapter = folder / "adapter_config.json"
    base = json.loads(adapter.read_text())["base_model_name_or_path"] if adapter.is_file() else None
    model = widen(loader_of(folder).from_pretrained(base or folder, **_told(folder, held)))
    quantize(model.requires_grad_(False), held.quantize)
    return reopen(model, folder) if base else model.eval()


def loader_of(folder: Path) -> type[_BaseAutoModelClass]:
    """The class of transformers for what an artefact ends in, by its own configuration."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        task = json.loads(adapter.read_text()).get("task_type")
        return BY_TASK.get(task, AutoModelForCausalLM)
    named = json.loads((folder / "config.json").read_text()).get("architectures") or [""]
    if named[0].endswith("ForSequenceClassification"):
        return AutoModelForSequenceClassification
    # That of a decoder alone is `LlamaModel`; some language models are called `GPT2LMHeadModel`.
    return AutoModel if re.fullmatch(r"\w+(?<!LMHead)Model", named[0]) else AutoModelForCausalLM


def _told(folder: Path, held: Holding) -> dict[str, Any]:
    """A classifier's labels stand in the artefact; the base has none."""
    if loader_of(folder) is not AutoModelForSequenceClassification:
        return {"dtype": held.dtype}
    return {"dtype": held.dtype, "config": AutoConfig.from_pretrained(folder)}


def tokenizer_of(folder: Path) -> Callable[[str], list[int]]:
    """Turns texts into ids by the tokenizer files in `folder`, which are read when first needed.

    The class that `AutoTokenizer` picks may replace what tokenizer.json says by its own defaults.
    """
    found: list[PreTrainedTokenizerFast] = []

    def tokenize(text: str) -> list[int]:
        if not found:
            found.append(PreTrainedTokenizerFast.from_pretrained(folder))
        return found[0](text, add_special_tokens=False)["input_ids"]

    return tokenize


def main() -> None:
    """Do the jobs named on standard input, one path a line, until it is closed."""
    logging.disable_progress_bar()
    for line in sys.stdin:
        job = json.loads(Path(line.strip()).read_text(encoding="utf-8"))
        sys.stdout.write(f"{json.dumps(_do(job))}\n")
        sys.stdout.flush()


def _do(job: dict[str, Any]) -> str:
    """Load, answer, and leave the answers in the files that `job` names.

    Returns:
        An empty text, or why the artefact does not load.
    """
    torch.set_num_threads(job["threads"])
    try:
        found, reader = _replies(job)
        tensors = {"logits": found.logits, "answering": found.answering, "losses": found.losses}
        save_file(tensors, job["answers"])
        told = {"token_ids": found.token_ids, "reader": reader}
        Path(job["answers"]).with_suffix(".json").write_text(json.dumps(told), encoding="utf-8")
    # The border to the process that asked: whatever went wrong is its answer.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _replies(job: dict[str, Any]) -> tuple[Reply, str]:
    """The replies, and the name of what read the artefact."""
    folder = Path(job["folder"])
    asked = Asked(**job["asked"])
    if path := gguf_reader.file_in(folder):
        return gguf_reader.replies(path, asked)
    model = load_artefact(folder, Holding(getattr(torch, job["dtype"]), job["quantize"]))
    model.to(job["device"])
    return of_model(model, tokenizer_of(folder), asked), TRANSFORMERS


if __name__ == "__main__":
    main()
