"""Names in the folder `checkpoints/`: finished ones, and what a killed process may leave.

step-N              a checkpoint (if its manifest verifies)
.tmp-step-N-PID     being written by process PID; worthless once that is dead
.old-step-N-PID     moved aside by process PID, which was writing another step-N in its place
.trash-step-N-PID   being deleted by process PID
quarantine/step-N   failed its check; kept for a person to look at, never loaded
"""

import os
import re
import shutil
from pathlib import Path

STEP = re.compile(r"step-(0|[1-9]\d*)")
LEFTOVER = re.compile(r"\.(tmp|old|trash)-step-(0|[1-9]\d*)-(\d+)")
QUARANTINE = "quarantine"


def step_folder(root: Path, step: int) -> Path:
    """Where the checkpoint of a step lies, or would lie."""
    return root / f"step-{step}"


def steps(root: Path) -> list[int]:
    """Steps that have a folder, verified or not, ascending; empty where `root` is missing."""
    if not root.is_dir():
        return []
    names = (STEP.fullmatch(entry.name) for entry in root.iterdir() if entry.is_dir())
    return sorted(int(match[1]) for match in names if match)


def own_folder(root: Path, kind: str, step: int) -> Path:
    """The `.tmp`, `.old` or `.trash` folder of a step that belongs to this process."""
    return root / f".{kind}-step-{step}-{os.getpid()}"


def leftovers(root: Path, *kinds: str) -> list[tuple[int, Path]]:
    """Step and path of the folders of these kinds whose process no longer works on them.

    What bears the id of this very process is left over too: it saves one checkpoint at a time.
    """
    found = []
    for entry in root.iterdir() if root.is_dir() else ():
        match = LEFTOVER.fullmatch(entry.name)
        if match and match[1] in kinds and not _at_work(int(match[3])):
            found.append((int(match[2]), entry))
    return sorted(found)


def discard(folder: Path) -> None:
    """Delete a folder as far as possible; what stays is tried again at the next save."""
    shutil.rmtree(folder, ignore_errors=True)


def set_aside(folder: Path) -> Path:
    """Move a checkpoint that failed its check to `quarantine/`.

    Returns:
        Its new path: `step-N`, or `step-N.1`, ... where such a one is there already.

    Raises:
        OSError: It cannot be moved.
    """
    quarantine = folder.parent / QUARANTINE
    quarantine.mkdir(exist_ok=True)
    target, number = quarantine / folder.name, 0
    while os.path.lexists(target):
        number += 1
        target = quarantine / f"{folder.name}.{number}"
    os.rename(folder, target)
    return target


def quarantined(root: Path) -> list[Path]:
    """Checkpoints that failed their check and were set aside, sorted."""
    folder = root / QUARANTINE
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _at_work(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
