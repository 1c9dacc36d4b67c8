"""Loads an artefact as a stranger would, in a process of its own, and answers with it.

Run as `python -m tunesmith.export.reload`; `stranger.py` starts it and hands it jobs. Only
transformers and PEFT touch the model here, none of Tunesmith's compute paths; where the base was
quantised in training, `models.quantize` holds it the same way.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from tunesmith.models.quantize import NONE, quantize


@dataclass(frozen=True, slots=True)
class Holding:
    """How the frozen weights of a base are held in memory."""

    dtype: torch.dtype
    quantize: str = NONE


def load_artefact(folder: Path, held: Holding) -> PreTrainedModel | PeftModel:
    """The model of an adapter folder (with the base it names) or of a whole model's folder."""
    adapter = folder / "adapter_config.json"
    base = json.loads(adapter.read_text())["base_model_name_or_path"] if adapter.is_file() else None
    model = AutoModelForCausalLM.from_pretrained(base or folder, dtype=held.dtype)
    quantize(model.requires_grad_(False), held.quantize)
    return PeftModel.from_pretrained(model, folder).eval() if base else model.eval()


@torch.inference_mode()
def answer(model: nn.Module, prompts: list[list[int]], num_tokens: int) -> dict[str, Tensor]:
    """Logits after each prompt and the greedy tokens that follow, one prompt at a time.

    Args:
        model: Any causal language model of transformers or PEFT.
        prompts: Token ids.
        num_tokens: How many greedy tokens; the model's stop tokens do not end them.

    Returns:
        `logits` (P, V) float32 and `tokens` (P, num_tokens) int64.
    """
    device = next(model.parameters()).device
    logits, tokens = [], []
    for prompt in prompts:
        ids = torch.tensor([prompt], device=device)
        out = model(input_ids=ids, use_cache=True)
        logits.append(out.logits[0, -1].float().cpu())
        chosen = [out.logits[0, -1].argmax()]
        while len(chosen) < num_tokens:
            step = chosen[-1].view(1, 1)
            out = model(input_ids=step, past_key_values=out.past_key_values, use_cache=True)
            chosen.append(out.logits[0, -1].argmax())
        tokens.append(torch.stack(chosen).cpu())
    return {"logits": torch.stack(logits), "tokens": torch.stack(tokens)}


def main() -> None:
    """Do the jobs named on standard input, one path a line, until it is closed."""
    logging.disable_progress_bar()
    for line in sys.stdin:
        job = json.loads(Path(line.strip()).read_text(encoding="utf-8"))
        sys.stdout.write(f"{json.dumps(_do(job))}\n")
        sys.stdout.flush()


def _do(job: dict[str, Any]) -> str:
    """Load, answer, and leave the answers in the file that `job` names.

    Returns:
        An empty text, or why the artefact does not load.
    """
    torch.set_num_threads(job["threads"])
    try:
        held = Holding(getattr(torch, job["dtype"]), job["quantize"])
        model = load_artefact(Path(job["folder"]), held)
        model.to(job["device"])
        save_file(answer(model, job["prompts"], job["num_tokens"]), job["answers"])
    # The border to the process that asked: whatever went wrong is its answer.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    main()
