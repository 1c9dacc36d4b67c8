"""The artefact of a run: the trained weights in the field's own format, with their hash."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b, file_digest, sha256
from pathlib import Path

import torch
from torch import Tensor

from tunesmith.adapters.base import Adapter, Attached, Saved
from tunesmith.errors import RunError
from tunesmith.models.base import Base
from tunesmith.models.heads import write_beside
from tunesmith.runs.durable import disk_errors, sync_file, sync_folder
from tunesmith.runs.patience import patiently


@dataclass(frozen=True, slots=True)
class Artefact:
    """What lies in the folder."""

    path: Path
    sha256: str
    """Of the weights: over the sorted (name, SHA-256) of the safetensors files."""
    bytes: int
    files: dict[str, str]
    """SHA-256 of every file, by its name; pages for people left out."""
    unmoved: tuple[str, ...] = ()
    """Trained parameters that are, bit for bit, where they began."""


def write(
    adapter: Adapter,
    attached: Attached,
    base: Base,
    folder: Path,
    unmoved: Sequence[str] = (),
) -> Artefact:
    """Write adapter or model, tokenizer and chat template into `folder`, whole or not at all.

    Raises:
        MachineError: The disk refused; a full one is waited for where the run does that.
    """
    patiently(lambda: _write(adapter, attached, base, folder))
    return describe(folder, unmoved)


def _write(adapter: Adapter, attached: Attached, base: Base, folder: Path) -> None:
    """Write into a folder beside it, have that on the disk, and give it its name."""
    temp = folder.with_name(f".{folder.name}.tmp")
    needed = sum(p.numel() * p.element_size() for p in attached.trained.values())
    try:
        with disk_errors(folder, needed):
            shutil.rmtree(temp, ignore_errors=True)
            temp.mkdir(parents=True)
            adapter.write(attached, temp, base_name(base))
            base.tokenizer.save_pretrained(temp)
            if attached.head:
                write_beside(attached.head, attached.model, temp)
            for path in sorted(temp.rglob("*")):
                sync_folder(path) if path.is_dir() else sync_file(path)
            sync_folder(temp)
            shutil.rmtree(folder, ignore_errors=True)
            temp.rename(folder)
            sync_folder(folder.parent)
    finally:
        # Half an artefact would take the room that is waited for.
        shutil.rmtree(temp, ignore_errors=True)


def base_name(base: Base) -> str:
    """What another program needs to find the base: a hub id, or the path of its folder."""
    source = base.source
    return source.id if source.revision else str(source.path)


def describe(folder: Path, unmoved: Sequence[str] = ()) -> Artefact:
    """Hashes of the files in `folder`, and of the weights as a whole.

    Raises:
        MachineError: A file cannot be read.
    """
    with disk_errors(folder / "artefact"):
        paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".md"]
        files = {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}
        weights = sorted(folder.glob("*.safetensors"))
        size = sum(path.stat().st_size for path in weights)
    digest = sha256()
    for path in weights:
        digest.update(f"{path.name}\0{files[path.name]}\n".encode())
    return Artefact(folder, digest.hexdigest(), size, files, tuple(unmoved))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def fingerprints(trained: Mapping[str, Tensor]) -> dict[str, str]:
    """A hash of the bits of each trained parameter; differs as soon as one number moved."""
    return {
        name: blake2b(bits(tensor).numpy(), digest_size=16).hexdigest()
        for name, tensor in trained.items()
    }


def bits(tensor: Tensor) -> Tensor:
    """The bits of a tensor of any type and shape, (bytes,) uint8 in the memory of the processor."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


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


def require_update(saved: Saved) -> None:
    """Refuse an adapter whose update is nothing: every B of LoRA is zero, as it was at the start.

    Raises:
        RunError: Naming one of them.
    """
    outer = [name for name in saved.tensors if ".lora_B." in name]
    if outer and not any(saved.tensors[name].any() for name in outer):
        raise RunError(
            outer[0],
            got=f"zeros, as in all {len(outer)} B of the adapter: it changes nothing",
            expected="an update that was trained",
            hint="raise train.learning_rate or train longer",
        )
