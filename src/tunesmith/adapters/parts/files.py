"""PEFT's folder of an adapter: adapter_config.json and adapter_model.safetensors."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save_file
from torch import Tensor

from tunesmith.adapters.base import Attached, Saved


def write(attached: Attached, folder: Path, base_id: str) -> None:
    """Write the trained weights as PEFT does, the configuration in an order that repeats."""
    for config in attached.writer.peft_config.values():
        config.base_model_name_or_path = base_id
        config.inference_mode = True
    keep(saved(attached), folder)


def keep(what: Saved, folder: Path) -> None:
    """Write what is to be saved under PEFT's file names; tensors in fixed order, on the CPU."""
    # Copies: safetensors takes no two tensors that share memory.
    tensors = {
        n: t.detach().cpu().clone(memory_format=torch.contiguous_format)
        for n, t in sorted(what.tensors.items())
    }
    save_file(tensors, folder / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
    text = json.dumps(what.config, indent=2, sort_keys=True)
    (folder / what.config_file).write_text(f"{text}\n", encoding="utf-8")


def saved(attached: Attached) -> Saved:
    """The trained weights under PEFT's names, with the configuration of the one adapter."""
    writer: PeftModel = attached.writer
    return Saved(tensors_of(writer), CONFIG_NAME, plain(next(iter(writer.peft_config.values()))))


def tensors_of(model: PeftModel) -> dict[str, Tensor]:
    """The trained adapter's numbers by PEFT's names: those in the model, not copies."""
    # Left to itself, PEFT asks the hub about the base to decide on embeddings.
    return get_peft_model_state_dict(model, save_embedding_layers=False)


def plain(config: PeftConfig) -> dict[str, Any]:
    """A configuration as it is in JSON.

    PEFT writes its sets in the order of a hash that differs between processes; here they are
    sorted.
    """
    return json.loads(json.dumps(config.to_dict(), default=sorted, sort_keys=True))
