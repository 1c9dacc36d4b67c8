"""LoRA: a low-rank update beside each chosen linear layer, the base frozen.

    W' = W + (alpha / rank) B A,   A (rank, inputs) drawn, B (outputs, rank) zero at the start

LoRA, arXiv:2106.09685, eq. 3; structure, start and file format are PEFT's. A and B are fp32.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from pydantic import Field
from torch import nn
from transformers import PreTrainedModel

from tunesmith.adapters.base import Attached, Saved, kinds
from tunesmith.config.section import Section
from tunesmith.errors import RecipeError

LEARNING_RATE = 2e-4
"""The rate of the QLoRA paper for small models (arXiv:2305.14314, table 9)."""
TRAINS_BASE = False
FOLDER = "adapter"


class Config(Section):
    """Keys of `adapter` with `name: lora`."""

    name: Literal["lora"] = "lora"
    """Train low-rank updates beside linear layers."""
    rank: int = Field(16, ge=1)
    """Rank of each update."""
    alpha: float | None = Field(None, gt=0)
    """Updates are scaled by alpha / rank; left out, alpha is twice the rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Probability of dropping an input of the update while training."""
    targets: Literal["auto"] | list[str] = "auto"
    """auto: every linear layer of the blocks; or last name parts, such as [q_proj, v_proj]."""

    @property
    def resolved_alpha(self) -> float:
        """Alpha, with its default filled in."""
        return 2.0 * self.rank if self.alpha is None else self.alpha


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """Put an update beside each target; A is drawn from `seed`.

    Raises:
        RecipeError: A target that matches no linear layer of the base.
    """
    targets = _targets(model, config)
    peft_config = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.resolved_alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
    )
    torch.manual_seed(seed)
    model.requires_grad_(False)
    peft_model = get_peft_model(model, peft_config)
    for parameter in peft_model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return _attached(model, peft_model)


def multiple(config: Config) -> float:
    """The best rate as a multiple of that of full fine-tuning.

    10 in a scale of 32 / rank, for every rank (LoRA Without Regret, Schulman and Thinking Machines
    Lab, 2025). B starts at zero, so that the first updates of W go by scale times rate: in another
    scale the rate is larger by as much as the scale is smaller.
    """
    scale = config.resolved_alpha / config.rank
    return 10.0 * 32.0 / config.rank / scale


def write(attached: Attached, folder: Path, base_id: str) -> None:
    """Write a PEFT adapter folder: adapter_config.json and adapter_model.safetensors."""
    writer: PeftModel = attached.writer
    for peft_config in writer.peft_config.values():
        peft_config.base_model_name_or_path = base_id
        peft_config.inference_mode = True
    # Left to itself, PEFT asks the hub about the base to decide on embeddings.
    writer.save_pretrained(folder, save_embedding_layers=False)


def saved(attached: Attached) -> Saved:
    """A and B of every target, under PEFT's names."""
    writer: PeftModel = attached.writer
    config = next(iter(writer.peft_config.values())).to_dict()
    # As a set, targets are written in the order of a hash that differs between processes.
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
    return Saved(
        tensors=get_peft_model_state_dict(writer, save_embedding_layers=False),
        config_file="adapter_config.json",
        config=json.loads(json.dumps(plain)),
    )


def _attached(model: PreTrainedModel, peft_model: PeftModel) -> Attached:
    adapted = {name for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    inside = tuple(f"{name}." for name in adapted)
    return Attached(
        model=model,
        trained={n: p for n, p in model.named_parameters() if p.requires_grad},
        writer=peft_model,
        disabled=peft_model.disable_adapter,
        targeted=dict(Counter(name.rpartition(".")[2] for name in sorted(adapted))),
        untargeted=dict(Counter(kinds(model, lambda name, _: not name.startswith(inside)))),
    )


def _targets(model: PreTrainedModel, config: Config) -> list[str]:
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    if config.targets == "auto":
        return sorted(linear)
    for target in config.targets:
        if target not in linear:
            raise RecipeError(
                "adapter.targets",
                got=repr(target),
                expected=f"linear layers of this base: {', '.join(sorted(linear))}",
            )
    return sorted(config.targets)
