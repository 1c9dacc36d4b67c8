"""One writer per run: an exclusive flock on `.lock` in the run folder.

The kernel lets go of the lock when its process ends, however it ends, so a killed run never has to
be unlocked by hand. The process id inside is for messages only. Readers that ask who holds the lock
take it for an instant; a writer that meets one asks again for a while.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.errors import CommandError
from tunesmith.runs.durable import disk_errors

LOCK_NAME = ".lock"
PATIENCE_SECONDS = 1.0


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Be the one process that writes to the run in `folder`, for as long as the block lasts.

    Raises:
        CommandError: Another process holds it, or the folder was moved aside meanwhile.
        MachineError: The lock file cannot be made, or the file system has no locks.
    """
    lock = folder / LOCK_NAME
    with disk_errors(lock):
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with disk_errors(lock):
            if not _acquired(file):
                raise _held(folder)
            if not _same_file(file, lock):
                # Between opening and locking, another process moved this run aside.
                raise CommandError(str(folder), got="a run that is being moved", hint="try again")
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)


def holder(folder: Path) -> int | None:
    """Id of the live process that writes to the run in `folder`; None when there is none.

    0 when a process holds it that has not written its id yet.
    """
    try:
        file = os.open(folder / LOCK_NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(file, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdecimal() else 0
    except OSError:
        # A file system without locks: whoever wants to write is told so by hold().
        return None
    finally:
        os.close(file)
    return None


def _acquired(file: int) -> bool:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                return False
            time.sleep(0.02)
        else:
            return True


def _same_file(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _held(folder: Path) -> CommandError:
    pid = holder(folder)
    who = f"process {pid}" if pid else "another process"
    stop = f", stop it with `kill -INT {pid}`" if pid else ""
    return CommandError(
        str(folder),
        got=f"a run that {who} is writing to",
        expected="a run that no process holds",
        hint=f"wait for it{stop}, or set another output.dir",
    )
