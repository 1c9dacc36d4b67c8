"""Retention: which checkpoints may go, once a newer one has verified."""

import os
from collections.abc import Set
from pathlib import Path

from tunesmith.checkpoint.layout import discard, own_folder, step_folder, steps
from tunesmith.checkpoint.verify import NewerFormatError, verify
from tunesmith.errors import CheckpointError
from tunesmith.runs.durable import disk_errors, sync_folder


def retain(root: Path, keep: int, protect: Set[int]) -> list[int]:
    """Delete old checkpoints.

    What stays: the newest that verifies, the `keep` newest that look whole (manifest and sizes),
    every protected step, and whatever is newer than the newest that verifies. When none verifies,
    nothing is deleted. A kill leaves a checkpoint that is there as a whole or gone for all readers.

    Args:
        root: The folder `checkpoints/`.
        keep: How many to keep, at least 1; protected ones come on top.
        protect: Steps never to delete: the best.

    Returns:
        The steps deleted, ascending.

    Raises:
        ValueError: `keep` is less than 1.
        MachineError: The disk refused to be read or to rename; what was not renamed is whole.
    """
    if keep < 1:
        raise ValueError(f"keep: got {keep}; expected at least 1")
    with disk_errors(root):
        return _delete(root, _superfluous(root, keep, protect))


def _superfluous(root: Path, keep: int, protect: Set[int]) -> list[int]:
    """The steps to delete, ascending."""
    descending = steps(root)[::-1]
    newest = next((step for step in descending if _is_whole(root, step)), None)
    if newest is None:
        return []
    older = [step for step in descending if step < newest]
    kept = {newest, *protect}
    kept.update([step for step in older if _is_whole(root, step, sizes_only=True)][: keep - 1])
    return sorted(set(older) - kept)


def drop_after(root: Path, step: int) -> list[int]:
    """Delete every checkpoint of a later step: the run has gone back to this one.

    Returns:
        The steps deleted, ascending.

    Raises:
        MachineError: The disk refused to be read or to rename; what was not renamed is whole.
    """
    with disk_errors(root):
        doomed = [later for later in steps(root) if later > step]
        return _delete(root, doomed)


def _delete(root: Path, doomed: list[int]) -> list[int]:
    # The newest first: a kill in between leaves no gap below a checkpoint that is there.
    trash = [_throw_away(root, step) for step in reversed(doomed)]
    if trash:
        sync_folder(root)
    for folder in trash:
        discard(folder)
    return doomed


def _throw_away(root: Path, step: int) -> Path:
    """Take its name from a checkpoint, so that no reader can meet a half deleted one."""
    trash = own_folder(root, "trash", step)
    discard(trash)
    os.rename(step_folder(root, step), trash)
    return trash


def _is_whole(root: Path, step: int, *, sizes_only: bool = False) -> bool:
    try:
        verify(step_folder(root, step), sizes_only=sizes_only)
    except NewerFormatError:
        raise
    except CheckpointError:
        return False
    return True
