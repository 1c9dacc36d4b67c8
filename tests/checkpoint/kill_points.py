"""Run under strace by `test_crash.py`: stop one save, deletion or replacement at every system call.

strace counts the calls of each process from its birth, and strikes (kill or error) at the LIMIT-th
of a kind. So a child that first makes LIMIT - k calls which do nothing is struck at its k-th real
one: one strace, one import of Python, and a fork for each point.

Usage: kill_points.py FOLDER SCENARIO ... ; prints JSON: [scenario, syscall, point, exit or -signal]
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tunesmith.checkpoint.commit import commit
from tunesmith.checkpoint.retain import retain
from tunesmith.checkpoint.verify import latest
from tunesmith.errors import MachineError

LIMITS = {"openat": 300} | dict.fromkeys(
    ("fsync", "rename", "mkdir", "write", "unlinkat", "rmdir"), 40
)
"""The imports above make about 150 calls of openat, and hardly any of the others."""
MAX_POINTS = 35
NO_PROCESS = 2**22 + 1
"""An id that Linux gives to no process."""


def write(folder: Path, content: str) -> None:
    """Two files, one of them in a folder."""
    (folder / "state.json").write_text(content)
    (folder / "adapter").mkdir()
    (folder / "adapter" / "weights").write_text(content * 100)


def save(root: Path, step: int, content: str) -> None:
    """One checkpoint."""
    commit(root, step, lambda folder: write(folder, content), {"content": content})


def leave_behind(root: Path) -> None:
    """What a process leaves that is killed while replacing step-20, after one killed at step-30."""
    save(root, 10, "old")
    save(root, 20, "old")
    (root / "step-20").rename(root / f".old-step-20-{NO_PROCESS}")
    (root / f".tmp-step-30-{NO_PROCESS}").mkdir()
    write(root / f".tmp-step-30-{NO_PROCESS}", "half")


SCENARIOS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "save": (lambda root: save(root, 10, "old"), lambda root: save(root, 20, "new")),
    "replace": (lambda root: save(root, 20, "old"), lambda root: save(root, 20, "new")),
    "retain": (
        lambda root: [save(root, step, "old") for step in (10, 20, 30)],
        lambda root: retain(root, keep=1, protect={10}),
    ),
    "recover": (
        lambda root: leave_behind(root),
        lambda root: (latest(root), save(root, 30, "new")),
    ),
}


def idle(syscall: str, times: int) -> None:
    """Make calls of one kind that change nothing."""
    null = os.open("/dev/null", os.O_WRONLY)
    shared = os.open("/dev/shm", os.O_RDONLY)
    calls: dict[str, Callable[[], object]] = {
        "openat": lambda: os.open("/nowhere/a", os.O_RDONLY),
        "fsync": lambda: os.fsync(shared),
        "rename": lambda: os.rename("/nowhere/a", "/nowhere/b"),
        "mkdir": lambda: os.mkdir("/"),
        "write": lambda: os.write(null, b""),
        "unlinkat": lambda: os.unlink("nothing of this name", dir_fd=shared),
        "rmdir": lambda: os.rmdir("/nowhere/a"),
    }
    # The two opened above count as well.
    for _ in range(times - (2 if syscall == "openat" else 0)):
        with suppress(OSError):
            calls[syscall]()


def forked(action: Callable[[], object]) -> int:
    """Do it in a child; its exit code, 4 for a MachineError, or minus the signal that ended it."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        action()
        code = 0
    except MachineError:
        code = 4
    finally:
        os._exit(code)


def strike(root: Path, scenario: str, syscall: str, point: int) -> int:
    """One child, struck at its `point`-th call of a kind."""
    before, action = SCENARIOS[scenario]
    assert forked(lambda: before(root)) == 0

    def victim() -> None:
        idle(syscall, LIMITS[syscall] - point)
        action(root)

    return forked(victim)


def main(base: Path, scenarios: list[str], num_points: dict[str, int]) -> None:
    """Strike at every point; without known numbers of points, until a child is not struck."""
    results = []
    for scenario in scenarios:
        for syscall in LIMITS:
            most = num_points.get(f"{scenario}/{syscall}", 0 if num_points else MAX_POINTS)
            for point in range(1, most + 1):
                root = base / f"{scenario}-{syscall}-{point}"
                code = strike(root, scenario, syscall, point)
                results.append([scenario, syscall, point, code])
                if code == 0 and not num_points:
                    forked(lambda root=root: shutil.rmtree(root))
                    break
    print(json.dumps(results))


if __name__ == "__main__":
    # A child begins to count anew, so the calls of the imports above do not matter.
    if nursery := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(nursery, 0)[1]))
    main(Path(sys.argv[1]), sys.argv[3:], json.loads(sys.argv[2]))
