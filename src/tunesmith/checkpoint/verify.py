"""Is this checkpoint what was saved? And which is the newest that is?

The answer rests on bytes alone: sizes and SHA-256 of every file. Neither a clock nor the mere
presence of a folder says anything.
"""

import errno
from dataclasses import dataclass
from pathlib import Path

from tunesmith.checkpoint.layout import discard, leftovers, set_aside, step_folder, steps
from tunesmith.checkpoint.manifest import (
    HINT,
    FileEntry,
    Manifest,
    NewerFormatError,
    file_entry,
    list_files,
    read_manifest,
)
from tunesmith.errors import CheckpointError
from tunesmith.runs.durable import disk_errors, sync_folder

__all__ = ["Latest", "Manifest", "latest", "quarantine", "read_manifest", "restore", "verify"]


@dataclass(frozen=True, slots=True)
class Latest:
    """The checkpoint to go on from.

    Attributes:
        manifest: That of the highest step that verified; None when there is none.
        quarantined: Where each newer one that did not verify lies now, and why.
    """

    manifest: Manifest | None
    quarantined: list[tuple[Path, str]]


def verify(folder: Path, *, sizes_only: bool = False) -> Manifest:
    """Check every file of a checkpoint against its manifest.

    Args:
        folder: A `step-N` folder.
        sizes_only: Leave out the SHA-256, which has to read every byte.

    Raises:
        CheckpointError: Something is missing, superfluous or different; each such file is named.
        MachineError: The check could not be made (no permission, no file handles left).
    """
    with disk_errors(folder):
        manifest = read_manifest(folder)
        found = list_files(folder)
        problems = [f"{name}: missing" for name in manifest.files.keys() - found.keys()]
        problems += [f"{name}: not in its manifest" for name in found.keys() - manifest.files]
        for name in manifest.files.keys() & found.keys():
            problem = _difference(found[name], manifest.files[name], sizes_only)
            if problem:
                problems.append(f"{name}: {problem}")
    if not problems:
        return manifest
    problems.sort()
    more = f"; and {len(problems) - 5} more files" if len(problems) > 5 else ""
    raise CheckpointError(
        str(folder),
        got="; ".join(problems[:5]) + more,
        expected="the files as they were saved",
        hint=HINT,
    )


def latest(root: Path, most: int | None = None) -> Latest:
    """The highest step whose manifest verifies; bad ones above it are moved to `quarantine/`.

    To be called by the process that holds the run: it moves folders.

    Args:
        root: The folder `checkpoints/`.
        most: Steps above it are not looked at.

    Raises:
        CheckpointError: One above it is whole, but of a newer format.
        MachineError: The disk refused.
    """
    quarantined: list[tuple[Path, str]] = []
    with disk_errors(root):
        restore(root)
        for step in reversed([s for s in steps(root) if most is None or s <= most]):
            folder = step_folder(root, step)
            try:
                return Latest(verify(folder), quarantined)
            except NewerFormatError:
                raise
            except CheckpointError as error:
                quarantined.append((quarantine(folder), str(error)))
    return Latest(None, quarantined)


def quarantine(folder: Path) -> Path:
    """Move a checkpoint that failed its check out of the way, and say where it lies now.

    A disk that cannot be written does not stop the search for a whole one: then it stays.
    """
    try:
        target = set_aside(folder)
        sync_folder(folder.parent)
    except OSError:
        return folder
    return target


def restore(root: Path) -> None:
    """Finish what a process left undone that was killed while putting one step-N for another.

    The one moved aside comes back unless the new one is there and whole.

    Raises:
        OSError: The disk refused.
    """
    for step, aside in leftovers(root, "old"):
        target = step_folder(root, step)
        if target.exists():
            try:
                verify(target)
            except CheckpointError:
                quarantine(target)
        if target.exists():
            discard(aside)
        else:
            aside.rename(target)
            sync_folder(root)


def _difference(path: Path, entry: FileEntry, sizes_only: bool) -> str:
    """What is wrong with a file; empty when nothing is."""
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            return f"{size:,} bytes, its manifest says {entry.bytes:,}"
        if not sizes_only and file_entry(path) != entry:
            return "its bytes are not those that were saved (SHA-256 differs)"
    except OSError as error:
        # Bytes that the disk cannot give back are lost; any other refusal says nothing about them.
        if error.errno not in (errno.EIO, errno.ENOENT):
            raise
        return f"cannot be read ({error.strerror})"
    return ""
