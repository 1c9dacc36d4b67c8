"""The commit protocol: a checkpoint is there as a whole or not at all, whatever happens meanwhile.

1. write every file into `.tmp-step-N-PID` beside the others, sync each file;
2. write MANIFEST.json with size and SHA-256 of each as read back, sync it and every folder;
3. rename to `step-N`, sync `checkpoints/`.

A kill before the rename leaves a temp folder that no reader looks at and that the next save
deletes. A power cut cannot leave a `step-N` whose bytes never reached the disk, since these are
synced before it has that name.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith.checkpoint.layout import discard, leftovers, own_folder, step_folder, steps
from tunesmith.checkpoint.manifest import (
    FORMAT,
    NAME,
    RESERVED,
    Manifest,
    file_entry,
    list_files,
    manifest_text,
    parse_manifest,
    read_manifest,
)
from tunesmith.checkpoint.verify import quarantine, restore, verify
from tunesmith.errors import CheckpointError, MachineError
from tunesmith.runs.durable import (
    disk_error,
    disk_errors,
    machine_error,
    make_folder,
    sync_file,
    sync_folder,
)
from tunesmith.runs.events import now


def commit(
    root: Path, step: int, write: Callable[[Path], None], extra: dict[str, Any] | None = None
) -> Path:
    """Save the checkpoint of a step.

    One with the same content that is there already is kept; another one of the same step is
    replaced, and at every moment one of the two can be found by `latest`.

    Args:
        root: The folder `checkpoints/` of the run; made if missing.
        step: Optimizer steps done.
        write: Puts the files into the folder it is given; folders in it are fine, links are not.
        extra: More keys for the manifest, exact in JSON.

    Returns:
        The folder `step-N`.

    Raises:
        MachineError: The disk refused. Nothing of this checkpoint stays, the others are untouched.
        CheckpointError: `write` left no file, or something that cannot be vouched for.
    """
    target = step_folder(root, step)
    with disk_errors(target):
        make_folder(root)
        _sweep(root)
    with _temp_folder(root, step) as temp:
        write(temp)
        manifest = _seal(temp, step, _parent(root, step), extra or {})
        _publish(temp, target, manifest)
    return target


@contextmanager
def _temp_folder(root: Path, step: int) -> Iterator[Path]:
    """A folder to write in, gone after the block unless it was renamed."""
    temp = own_folder(root, "tmp", step)
    try:
        temp.mkdir()
        yield temp
    except MachineError:
        raise
    except Exception as error:
        cause = disk_error(error)
        if cause is None:
            raise
        # Free space is told as it is without the half checkpoint: that is what has to suffice.
        needed = max(_num_bytes(temp), _num_bytes_of_newest(root))
        discard(temp)
        raise machine_error(step_folder(root, step), cause, needed or None) from error
    finally:
        discard(temp)


def _seal(temp: Path, step: int, parent: int | None, extra: dict[str, Any]) -> Manifest:
    """Sync all that was written, and add the manifest that says what it is."""
    files = list_files(temp)
    if taken := sorted(RESERVED & extra.keys()):
        raise CheckpointError(str(temp), got=f"extra key {taken[0]}", expected="another name")
    if not files or (temp / NAME).exists():
        got = f"a {NAME} of its own" if files else "no file"
        raise CheckpointError(str(temp), got=got, expected="the files of a checkpoint")
    for path in files.values():
        sync_file(path)
    record = {
        "format": FORMAT,
        "step": step,
        "parent": parent,
        "created": now(),
        "files": {
            name: {"bytes": entry.bytes, "sha256": entry.sha256}
            for name, entry in ((name, file_entry(path)) for name, path in files.items())
        },
    }
    text = manifest_text({**extra, **record})
    (temp / NAME).write_bytes(text)
    sync_file(temp / NAME)
    for place, _, _ in os.walk(temp):
        sync_folder(Path(place))
    return parse_manifest(temp, text)


def _publish(temp: Path, target: Path, manifest: Manifest) -> None:
    """Give the sealed folder its name."""
    aside = own_folder(target.parent, "old", manifest.step)
    if os.path.lexists(target):
        try:
            if verify(target).same_content(manifest):
                return
        except CheckpointError:
            quarantine(target)
        else:
            os.rename(target, aside)
    try:
        os.rename(temp, target)
    finally:
        if aside.exists() and not target.exists():
            os.rename(aside, target)
    sync_folder(target.parent)
    discard(aside)


def _sweep(root: Path) -> None:
    """Clear away what killed processes left."""
    restore(root)
    for _, folder in leftovers(root, "tmp", "trash"):
        discard(folder)


def _parent(root: Path, step: int) -> int | None:
    """The highest step below this one that has a checkpoint."""
    return max((known for known in steps(root) if known < step), default=None)


def _num_bytes(folder: Path) -> int:
    """Bytes of the files below a folder, as far as they can be counted."""
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError:
        return 0


def _num_bytes_of_newest(root: Path) -> int:
    """Size of the newest checkpoint: the next one will hardly be smaller."""
    try:
        return read_manifest(step_folder(root, steps(root)[-1])).num_bytes
    except (CheckpointError, OSError, IndexError):
        return 0
