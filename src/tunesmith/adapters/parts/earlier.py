"""Adapters trained before: found by a run or folder, read, and gone on with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from safetensors.torch import load_file
from torch import Tensor

from tunesmith.adapters.base import Saved, own_format
from tunesmith.adapters.parts import files
from tunesmith.errors import RecipeError
from tunesmith.models.load import quiet
from tunesmith.models.refuse import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_adapter

_NOT_COMPARED = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "corda_config",
        "eva_config",
        "inference_mode",
        "init_lora_weights",
        "init_weights",
        "lora_dropout",
        "loftq_config",
        "peft_version",
        "projection_prng_key",
        "random_seed",
        "revision",
    }
)
"""Keys that say where a start came from, or which program wrote them; not what is computed."""


def folder_of(path: str, key: str) -> Path:
    """The adapter folder of a run, or the folder itself.

    Args:
        path: As the recipe or the command line names it.
        key: The recipe's key, for the message.

    Raises:
        RecipeError: There is no adapter.
        ModelError: One that names code, or is not safetensors.
    """
    for folder in (Path(path) / "adapter", Path(path)):
        if (folder / ADAPTER_CONFIG).is_file():
            check_adapter(folder)
            return folder
    raise RecipeError(
        key,
        got=f"{path}, which has no {ADAPTER_CONFIG}",
        expected="a run that succeeded, or the folder of an adapter",
    )


def config_in(folder: Path) -> PeftConfig:
    """PEFT's configuration of the adapter in a folder."""
    with quiet():
        return PeftConfig.from_pretrained(str(folder))


def tensors_in(folder: Path) -> dict[str, Tensor]:
    """The tensors of the adapter in a folder, on the CPU."""
    return load_file(folder / ADAPTER_WEIGHTS)


@torch.no_grad()
def go_on(saved: Saved, path: str, key: str) -> None:
    """Give an adapter that has just been attached the numbers of an earlier one.

    Args:
        saved: Of the one attached; its tensors are those in the model.
        path: Run or adapter folder of the earlier one.
        key: The recipe's key, for the message.

    Raises:
        RecipeError: They are not of the same kind, rank, targets and scale; each difference named.
    """
    tensors = alike(saved, folder_of(path, key), key, lambda name: name not in _NOT_COMPARED)
    for name, tensor in saved.tensors.items():
        tensor.copy_(tensors[name])


def alike(
    saved: Saved, folder: Path, key: str, compared: Callable[[str], bool]
) -> dict[str, Tensor]:
    """The tensors of an earlier adapter, which have the names and shapes of the attached one's.

    Args:
        saved: Of the one attached.
        folder: Of the earlier one.
        key: The recipe's key, for the message.
        compared: Whether a key of the two configurations must say the same.

    Raises:
        RecipeError: They are not alike; the first five differences are named.
    """
    found, tensors = keys_in(folder), tensors_in(folder)
    differences = [
        f"{name}: {_short(found.get(name))} there, {_short(saved.config.get(name))} here"
        for name in sorted(saved.config.keys() | found.keys())
        if compared(name) and found.get(name) != saved.config.get(name)
    ]
    differences = differences or [*_unlike(saved.tensors, tensors)]
    if differences:
        raise RecipeError(
            key,
            got=f"another adapter than this recipe's: {'; '.join(differences[:5])}",
            expected="the same keys of adapter and the same base as it was trained with",
        )
    return tensors


def keys_in(folder: Path) -> dict[str, Any]:
    """What stands in the configuration, and the defaults of what PEFT has and it has not."""
    if own_format(folder):
        return json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    return files.plain(config_in(folder))


def _unlike(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    missing = [f"{name}: only here" for name in sorted(ours.keys() - theirs.keys())]
    more = [f"{name}: only there" for name in sorted(theirs.keys() - ours.keys())]
    shapes = [
        f"{name}: {list(theirs[name].shape)} there, {list(ours[name].shape)} here"
        for name in sorted(ours.keys() & theirs.keys())
        if ours[name].shape != theirs[name].shape
    ]
    return missing + more + shapes


def _short(value: Any) -> str:
    text = str(sorted(value) if isinstance(value, set) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
