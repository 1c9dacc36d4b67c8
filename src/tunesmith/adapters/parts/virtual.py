"""Adapters of virtual tokens: how PEFT makes them, how they begin, and how they are written.

What is written is what an encoder has made, and not the encoder. So an earlier adapter is gone on
with as a table of numbers, whatever had made them: what P-tuning left as a prompt, what the MLP of
a prefix left as a prefix without one.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from peft import PeftModel, PromptLearningConfig, get_peft_model
from peft.utils import CONFIG_NAME
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.adapters.base import OWN_FORMAT, Attached, Material, Saved, kinds
from tunesmith.adapters.parts import earlier, files
from tunesmith.errors import RecipeError
from tunesmith.models import soft
from tunesmith.models.heads import task_of
from tunesmith.models.resting import resting
from tunesmith.models.soft_wrapper import KINDS, installed

FROM = "adapter.from"
NUMBERS = "prompt_embeddings"
"""PEFT's name of them in a file."""
OF_THE_MODEL = frozenset({"num_attention_heads", "num_layers", "task_type", "token_dim"})
"""Keys of PEFT that say what the virtual tokens were made for."""


def attach(model: PreTrainedModel, config: PromptLearningConfig, seed: int) -> Attached:
    """Freeze `model` and put virtual tokens before everything that it reads.

    Args:
        model: The base.
        config: PEFT's; what it draws is drawn from `seed`.
        seed: Of the run.
    """
    torch.manual_seed(seed)
    model.requires_grad_(False)
    config.task_type = task_of(model)
    peft_model = get_peft_model(model, config)
    prompt = soft.of(installed(peft_model))
    for parameter in prompt.parameters():
        parameter.data = parameter.data.float()
    inside = f"{soft.NAME}."
    return Attached(
        model=model,
        trained={n: p for n, p in model.named_parameters() if p.requires_grad},
        writer=peft_model,
        disabled=lambda: soft.off(model),
        targeted={"virtual tokens": prompt.num_tokens},
        untargeted=dict(Counter(kinds(model, lambda name, _: not name.startswith(inside)))),
    )


class Begun(Protocol):
    """The keys of an adapter whose virtual tokens begin as real ones."""

    virtual_tokens: int
    init_text: str | None


def first_ids(
    model: PreTrainedModel, config: Begun, seed: int, material: Material | None
) -> Tensor:
    """(virtual_tokens,) int64 ids of the tokens to begin as: of the text, or without one drawn."""
    if config.init_text is None:
        return drawn_ids(model, config.virtual_tokens, seed)
    return text_ids(config.init_text, config.virtual_tokens, material)


def drawn_ids(model: PreTrainedModel, num_tokens: int, seed: int) -> Tensor:
    """(num_tokens,) int64 ids drawn from the vocabulary of `model`."""
    torch.manual_seed(seed)
    return torch.randint(model.get_input_embeddings().num_embeddings, (num_tokens,))


def text_ids(text: str, num_tokens: int, material: Material | None) -> Tensor:
    """(num_tokens,) int64 ids of a text, repeated or cut to as many, as PEFT does.

    Raises:
        RecipeError: The text has no token, or there is no tokenizer.
    """
    ids = list(material.ids(text)) if material else []
    if not ids:
        raise RecipeError(
            "adapter.init_text", got=f"{text!r}, which has no tokens", expected="a text with some"
        )
    return torch.tensor((ids * -(-num_tokens // len(ids)))[:num_tokens])


@torch.no_grad()
def go_on(attached: Attached, path: str | None) -> Attached:
    """Give virtual tokens that have just been attached the numbers of earlier ones.

    Args:
        attached: Trains the numbers themselves, without a network that makes them.
        path: Run or adapter folder of the earlier ones; None leaves all as it is.

    Raises:
        RecipeError: They are as many as others, of another kind, or for another model.
    """
    if path is None:
        return attached
    folder, ours, prompt = earlier.folder_of(path, FROM), saved(attached), soft.of(attached.model)
    theirs = earlier.keys_in(folder)
    kind = str(theirs.get("peft_type") or theirs.get(OWN_FORMAT))
    own = [known.value for known, made in KINDS.items() if isinstance(prompt, made)]
    if kind not in own:
        raise RecipeError(
            FROM,
            got=f"{path}, an adapter of kind {kind.lower()}",
            expected=f"one of kind {' or '.join(own).lower()}",
        )
    if theirs["num_virtual_tokens"] != prompt.num_tokens:
        raise RecipeError(
            "adapter.virtual_tokens",
            got=f"{prompt.num_tokens}, from {path} with {theirs['num_virtual_tokens']}",
            expected=f"{theirs['num_virtual_tokens']}, as many as there",
        )
    tensors = earlier.alike(ours, folder, FROM, OF_THE_MODEL.__contains__)
    prompt.encoder.embedding.weight.copy_(tensors[NUMBERS])
    for name in ours.tensors.keys() - {NUMBERS}:  # A head of scores.
        ours.tensors[name].copy_(tensors[name])
    return replace(attached, continued=True)


def write(attached: Attached, folder: Path, base_id: str) -> None:
    """Write a PEFT adapter folder: adapter_config.json and adapter_model.safetensors.

    The file holds what the encoder makes, `prompt_embeddings`, and not the encoder.
    """
    attached.writer.active_peft_config.base_model_name_or_path = base_id
    files.keep(saved(attached), folder)


def saved(attached: Attached) -> Saved:
    """The numbers of the virtual tokens under PEFT's name, with the configuration of the adapter.

    Those of a head of scores stand beside them. What PEFT loads is no longer made by an encoder,
    which the configuration says; the one in memory still trains its own.
    """
    writer: PeftModel = attached.writer
    with resting(writer):  # The encoder may drop units in training.
        tensors = files.tensors_of(writer)
    config = files.plain(writer.active_peft_config)
    return Saved(tensors, CONFIG_NAME, {**config, "inference_mode": True})
