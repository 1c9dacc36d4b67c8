"""The artefact of a run: the trained weights in the field's own format, with their hash."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b, file_digest, sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from tunesmith.adapters.base import Adapter, Attached
from tunesmith.errors import RunError
from tunesmith.models.base import Base
from tunesmith.runs.durable import disk_errors


@dataclass(frozen=True, slots=True)
class Artefact:
    """What lies in the folder."""

    path: Path
    sha256: str
    """Of the weights: over the sorted (name, SHA-256) of the safetensors files."""
    bytes: int


def write(adapter: Adapter, attached: Attached, base: Base, folder: Path) -> Artefact:
    """Write adapter or model, tokenizer and chat template into `folder`, whole or not at all.

    Raises:
        RunError: A tensor is missing, not finite, or did not move from its start.
        MachineError: The disk refused.
    """
    temp = folder.with_name(f".{folder.name}.tmp")
    with disk_errors(folder):
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir(parents=True)
        adapter.write(attached, temp, base_name(base))
        base.tokenizer.save_pretrained(temp)
        _sort_targets(temp / "adapter_config.json")
        shutil.rmtree(folder, ignore_errors=True)
        temp.rename(folder)
    return describe(folder)


def base_name(base: Base) -> str:
    """What another program needs to find the base: a hub id, or the path of its folder."""
    source = base.source
    return source.id if source.revision else str(source.path)


def describe(folder: Path) -> Artefact:
    """Hash and size of the weights in `folder`."""
    weights = sorted(folder.glob("*.safetensors"))
    digest = sha256()
    for path in weights:
        with path.open("rb") as file:
            digest.update(f"{path.name}\0{file_digest(file, 'sha256').hexdigest()}\n".encode())
    return Artefact(folder, digest.hexdigest(), sum(path.stat().st_size for path in weights))


def fingerprints(trained: Mapping[str, Tensor]) -> dict[str, str]:
    """A hash of the bits of each trained parameter; differs as soon as one number moved."""
    return {
        name: blake2b(_bytes(tensor), digest_size=16).hexdigest()
        for name, tensor in trained.items()
    }


def _bytes(tensor: Tensor) -> np.ndarray:
    """The bits of a tensor of any type and shape."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def require_moved(start: dict[str, str], end: dict[str, str]) -> list[str]:
    """Names of trained parameters that are, bit for bit, where they began.

    Raises:
        RunError: None of them moved.
    """
    still = [name for name, digest in end.items() if start[name] == digest]
    if len(still) == len(end):
        raise RunError(
            "trained weights",
            got="every one of them unchanged",
            expected="weights that moved",
            hint="raise train.learning_rate or train longer",
        )
    return still


def require_sound(folder: Path, trained: Mapping[str, Tensor]) -> None:
    """Refuse an artefact that lacks a trained tensor or holds numbers that are not finite.

    Raises:
        RunError: Naming the first tensor at fault.
    """
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(path)
    if len(tensors) < len(trained):
        raise RunError(
            str(folder), got=f"{len(tensors)} tensors", expected=f"{len(trained)}, all trained ones"
        )
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise RunError(f"{folder}: {name}", got="NaN or infinity", expected="finite weights")


def _sort_targets(path: Path) -> None:
    """PEFT writes its set of targets in the order of a hash that differs between processes."""
    if not path.is_file():
        return
    written: dict[str, Any] = json.loads(path.read_text())
    if isinstance(written.get("target_modules"), list):
        written["target_modules"] = sorted(written["target_modules"])
    path.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
