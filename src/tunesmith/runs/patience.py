"""A full disk pauses a run instead of ending it: what is to be written is still in memory.

Whoever writes something that can be written again does it through `patiently`. Within `waiting`, an
error of a full disk is told, and the write is tried again once there is room; outside it, and for
every other error, `patiently` changes nothing. Time is measured with a monotonic clock.
"""

import errno
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tunesmith.errors import Interrupted, MachineError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that others end by deleting files, or by granting more."""
POLL_SECONDS = 0.5
"""Between looks at the free space and at a wish to stop."""
RETRY_SECONDS = (2.0, 60.0)
"""A write is tried again at the latest after so long, doubled each time up to the second figure:
free space says nothing about quotas or file entries."""

T = TypeVar("T")


@dataclass
class Patience:
    """How a run waits for room.

    Attributes:
        tell: Told what is waited for, and when it goes on; must not need the disk.
        stop: Whether the user asked for an end meanwhile.
        sleep: Passes the time, in seconds.
        clock: Monotonic, in seconds.
        seconds: Waited so far in all.
    """

    tell: Callable[[str], None]
    stop: Callable[[], bool] = lambda: False
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    seconds: float = field(default=0.0, init=False)

    def persist(self, write: Callable[[], T], error: MachineError) -> T:
        """Try a write again until it works, or fails otherwise.

        Raises:
            Interrupted: The user asked for an end.
        """
        began = self.clock()
        self.tell(f"paused: {error.message}")
        delay, longest = RETRY_SECONDS
        while True:
            self._await_room(error, delay)
            try:
                done = write()
            except MachineError as again:
                if again.errno not in FULL:
                    raise
                error, delay = again, min(2 * delay, longest)
            else:
                waited = self.clock() - began
                self.seconds += waited
                self.tell(f"going on after {waited:.0f} s: there is room again, nothing was lost")
                return done

    def _await_room(self, error: MachineError, seconds: float) -> None:
        """Return when more is free than was, and enough; at the latest after `seconds`."""
        place, until = nearest_folder(Path(error.where)), self.clock() + seconds
        before = free_bytes(place)
        while self.clock() < until:
            if self.stop():
                raise Interrupted(
                    error.where,
                    got="a request to stop while waiting for room on its disk",
                    hint="what was saved before is whole; make room, then resume the run",
                )
            self.sleep(POLL_SECONDS)
            now = free_bytes(place)
            if now > before and now >= (error.needed_bytes or 0):
                return


_PATIENCE: ContextVar[Patience | None] = ContextVar("patience", default=None)


@contextmanager
def waiting(patience: Patience | None) -> Iterator[None]:
    """Have `patiently` wait as `patience` says for the time of the block; None: not at all."""
    token = _PATIENCE.set(patience)
    try:
        yield
    finally:
        _PATIENCE.reset(token)


def patiently(write: Callable[[], T]) -> T:
    """Do `write`; when the disk is full and the run waits for room, do it again.

    Args:
        write: Can be called again after it failed. It turns errors of the disk into MachineError.

    Raises:
        MachineError: The disk refused for another reason, or nobody waits.
        Interrupted: The user asked for an end while it waited.
    """
    try:
        return write()
    except MachineError as error:
        patience = _PATIENCE.get()
        if patience is None or error.errno not in FULL:
            raise
        return patience.persist(write, error)


def nearest_folder(path: Path) -> Path:
    """The path itself if it is a folder, else the nearest one above that is there."""
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def free_bytes(path: Path) -> int:
    """Bytes that may still be written where `path` lies; 0 where that cannot be told."""
    try:
        return shutil.disk_usage(nearest_folder(path)).free
    except OSError:
        return 0
