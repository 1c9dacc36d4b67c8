"""Strike a process at every system call of something it does, with strace.

strace counts the calls of each process, and strikes (kills it, or fails the call) at the LIMIT-th
of a kind. A child begins to count anew: if it first makes LIMIT - k calls which do nothing, it is
struck at its k-th real one. So one strace serves for all points, and each costs a fork. It is
attached once everything is imported, by the process that is to be traced.
"""

import os
import shutil
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LIMITS = {"openat": 200, "read": 200} | dict.fromkeys(
    ("fsync", "rename", "renameat", "mkdir", "write", "ftruncate", "unlinkat", "rmdir"), 60
)
"""More than any child makes before it is done."""

Point = tuple[str, str, int]
"""Scenario, system call, and which of its calls of that kind is struck, from 1."""


@dataclass(frozen=True)
class Scenario:
    """What lies on the disk before, and what is then done and struck."""

    before: Callable[[Path], object]
    action: Callable[[Path], object]


@contextmanager
def traced(strace: str, faults: dict[str, str]) -> Iterator[None]:
    """Have this process and its children traced, and struck with these faults.

    Args:
        strace: Path of the program.
        faults: Name of a system call to what strace does at its LIMIT-th: `signal=KILL`,
            `error=ENOSPC`.
    """
    rules = [f"--inject={name}:{fault}:when={LIMITS[name]}" for name, fault in faults.items()]
    what = [f"--trace={','.join(faults)}", *rules, "-p", str(os.getpid())]
    tracer = subprocess.Popen([strace, "-f", "-qq", "-o", "/dev/null", *what])
    try:
        while "TracerPid:\t0\n" in Path("/proc/self/status").read_text():
            assert tracer.poll() is None, "strace may not trace here"
            time.sleep(0.01)
        yield
    finally:
        tracer.terminate()
        tracer.wait()


def idle(syscall: str, times: int) -> None:
    """Make calls of one kind that change nothing."""
    null = os.open("/dev/null", os.O_RDWR)
    shared = os.open("/dev/shm", os.O_RDONLY)
    calls: dict[str, Callable[[], object]] = {
        "openat": lambda: os.open("/nowhere/a", os.O_RDONLY),
        "read": lambda: os.read(null, 1),
        "fsync": lambda: os.fsync(shared),
        "rename": lambda: os.rename("/nowhere/a", "/nowhere/b"),
        "renameat": lambda: os.rename("nowhere", "nobody", src_dir_fd=shared, dst_dir_fd=shared),
        "mkdir": lambda: os.mkdir("/"),
        "write": lambda: os.write(null, b""),
        "ftruncate": lambda: os.ftruncate(null, 0),
        "unlinkat": lambda: os.unlink("nothing of this name", dir_fd=shared),
        "rmdir": lambda: os.rmdir("/nowhere/a"),
    }
    # The two opened above count as well.
    for _ in range(times - (2 if syscall == "openat" else 0)):
        with suppress(OSError):
            calls[syscall]()


def forked(action: Callable[[], object]) -> int:
    """Do it in a child; its exit code, that of a TunesmithError, or minus the signal."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        action()
        code = 0
    except Exception as error:
        code = getattr(error, "exit_code", 1)
        if code == 1:
            traceback.print_exc()
    finally:
        os._exit(code)


def strike(root: Path, scenario: Scenario, syscall: str, point: int) -> int:
    """One child, struck at its `point`-th call of a kind."""
    assert forked(lambda: scenario.before(root)) == 0

    def victim() -> None:
        idle(syscall, LIMITS[syscall] - point)
        scenario.action(root)

    return forked(victim)


def root_of(base: Path, point: Point) -> Path:
    """The folder in which a point is struck."""
    return base / "-".join(map(str, point))


def every_point(
    base: Path, scenarios: dict[str, Scenario], syscalls: list[str]
) -> Iterator[tuple[Point, int]]:
    """Strike at the first, second, ... call of each kind until a child is not struck.

    Yields:
        Each point with the exit code, or minus the signal, of the child that was struck there.
    """
    for name, scenario in scenarios.items():
        for syscall in syscalls:
            for number in range(1, LIMITS[syscall] - 2):
                point = (name, syscall, number)
                code = strike(root_of(base, point), scenario, syscall, number)
                if code == 0:
                    forked(lambda point=point: shutil.rmtree(root_of(base, point)))
                    break
                yield point, code


def these_points(
    base: Path, scenarios: dict[str, Scenario], points: list[Point]
) -> Iterator[tuple[Point, int]]:
    """Strike at these points; as `every_point`, and those that came to no harm are told too."""
    for point in points:
        yield point, strike(root_of(base, point), scenarios[point[0]], *point[1:])
