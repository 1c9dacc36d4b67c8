"""Writing so that it is still there after a crash, and saying so when the disk refuses.

POSIX promises that a rename is atomic, not that what was renamed has reached the disk, nor that the
folder remembers its new entry: file and folder have to be synced, in this order (Pillai et al.,
"All File Systems Are Not Created Equal", OSDI 2014).
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.errors import MachineError, TunesmithError
from tunesmith.runs.patience import free_bytes, nearest_folder, patiently

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors that go away when files are deleted or a limit is raised."""
NO_PERMISSION = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def sync_file(path: Path) -> None:
    """Return once the bytes of `path` are on the disk.

    Raises:
        OSError: The disk could not take them.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(path: Path) -> None:
    """Return once the names in the folder `path` are on the disk.

    Raises:
        OSError: The disk could not take them. A file system that does not sync folders at all
            (it answers EINVAL) is taken as it is.
    """
    try:
        sync_file(path)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def make_folder(path: Path) -> None:
    """Make the folder and those above it, so that they outlive a crash; one there already is fine.

    Raises:
        OSError: It cannot be made.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Put `content` at `path`: a reader sees all of the old bytes or all of the new, never a mix.

    A full disk is waited for where the run does that (`patience.waiting`).

    Raises:
        MachineError: The disk refused; what was at `path` before is untouched.
    """
    patiently(lambda: _replace(path, content))


def _replace(path: Path, content: bytes) -> None:
    temp = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with disk_errors(path, needed_bytes=len(content)):
        try:
            with temp.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temp, path)
            sync_folder(path.parent)
        finally:
            temp.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path, needed_bytes: int | None = None) -> Iterator[None]:
    """Turn an error of the disk met in the block into a MachineError that tells what was to be.

    Args:
        path: What was to be written.
        needed_bytes: Its size, if known.
    """
    try:
        yield
    except MachineError:
        raise
    except Exception as error:
        cause = disk_error(error)
        if cause is None:
            raise
        raise machine_error(path, cause, needed_bytes) from error


def disk_error(error: Exception) -> OSError | None:
    """The error of the disk that an exception tells of; None when it has another cause.

    Libraries in Rust (safetensors, tokenizers) report what the system told them in words alone.
    """
    if isinstance(error, OSError):
        return error
    if isinstance(error, TunesmithError):
        return None
    code = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(code[1]), str(error)) if code else None


def machine_error(path: Path, error: OSError, needed_bytes: int | None = None) -> MachineError:
    """The MachineError (exit 4) for an OSError met while writing `path`; it keeps the errno."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in NO_SPACE:
        expected = "room to write it"
        hint = f"make room on the disk of {path.parent}, then resume the run"
    elif error.errno in NO_PERMISSION:
        expected = "a folder that can be written"
        hint = f"make {path.parent} writable, then resume the run"
    else:
        expected = "a disk that takes it"
        hint = "check the disk, then resume the run; what was saved before is untouched"
    got = f"{reason} ({_room(path, needed_bytes)})"
    result = MachineError(str(path), got=got, expected=expected, hint=hint)
    result.errno, result.needed_bytes = error.errno, needed_bytes
    return result


def _room(path: Path, needed_bytes: int | None) -> str:
    """How much is free where `path` would lie, and how much it would take."""
    folder = nearest_folder(path.parent)
    free = [f"{free_bytes(folder):,} bytes free"]
    try:
        disk = os.statvfs(folder)
    except OSError:
        free = ["free space unknown"]
    else:
        # A disk may be full of files long before it is full of bytes.
        if disk.f_files and not disk.f_favail:
            free.append("no file entries left")
    needed = [] if needed_bytes is None else [f"{needed_bytes:,} bytes needed"]
    return ", ".join(needed + free)
