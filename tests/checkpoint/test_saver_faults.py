"""A run's own save, killed or refused by the disk at its system calls: it resumes to equal bits.

In the suite a seeded choice of points; every point there is with TUNESMITH_FAULTS=all.
"""

import json
import os
import platform
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

import tunesmith
from tests.checkpoint.saver_points import AT, END, Training
from tests.checkpoint.strikes import LIMITS, Point, root_of
from tunesmith.checkpoint.layout import steps

EVERY_POINT = os.environ.get("TUNESMITH_FAULTS") == "all"
KNOWN = {"openat": 20, "read": 14, "fsync": 5, "write": 3} | dict.fromkeys(
    ("mkdir", "rename", "renameat", "ftruncate"), 1
)
"""Calls that each scenario makes at least."""
EXPECTED_STEPS = {"rotate": {AT - 1, AT}, "replace": {AT}, "first": {0, AT}}
SEED, NUM_KILLS, NUM_ERRORS = 20261124, 24, 8

DISK_ERRORS = {
    # What each call may answer, by the manual pages of Linux.
    "ENOSPC": ["openat", "mkdir", "write", "fsync", "rename", "renameat", "ftruncate"],
    "EDQUOT": ["openat", "mkdir", "write", "fsync", "rename", "renameat", "ftruncate"],
    "EIO": list(LIMITS),
    "EROFS": ["openat", "mkdir", "rename", "renameat", "unlinkat", "rmdir"],
    "EACCES": ["openat", "mkdir", "rename", "renameat", "unlinkat", "rmdir"],
}


@pytest.fixture(scope="module")
def strace() -> str:
    """Path of strace, where it can be attached to a process."""
    if platform.machine() != "x86_64":
        pytest.skip("the names of the system calls are those of x86_64")
    path = shutil.which("strace")
    if not path:
        pytest.skip("strace is not installed: saves were not struck at their system calls")
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> str:
    """What a training ends in that nothing happened to."""
    training = Training(tmp_path_factory.mktemp("whole") / "checkpoints")
    training.run(END)
    return training.digest()


def strike(strace: str, base: Path, faults: dict[str, str], points: list[Point]) -> dict:
    """Exit code, or minus the signal, of the save at each point; all points where none is given."""
    base.mkdir()
    root = Path(tunesmith.__file__).parents[1]
    done = subprocess.run(
        [
            *(sys.executable, "-B", "-m", "tests.checkpoint.saver_points"),
            *(str(base), strace, json.dumps(faults), json.dumps(points)),
        ],
        env={**os.environ, "PYTHONPATH": f"{root}:{Path(__file__).parents[2]}"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    if "strace may not trace here" in done.stderr:
        pytest.skip("strace may not trace here: saves were not struck at their system calls")
    assert done.returncode == 0, done.stderr
    return {tuple(point): code for point, code in json.loads(done.stdout)}


def some_points(syscalls: Iterable[str], count: int) -> list[Point]:
    """A seeded choice."""
    known = [
        (scenario, syscall, number)
        for scenario in ("rotate", "replace", "first")
        for syscall in syscalls
        for number in range(1, KNOWN.get(syscall, 0) + 1)
    ]
    return random.Random(SEED).sample(known, count)


@pytest.fixture(scope="module")
def killed(strace, tmp_path_factory) -> tuple[Path, list[Point]]:
    """Folders left by saves that were killed, and where."""
    base = tmp_path_factory.mktemp("kills") / "killed"
    points = [] if EVERY_POINT else some_points(LIMITS, NUM_KILLS)
    results = strike(strace, base, dict.fromkeys(LIMITS, "signal=KILL"), points)
    assert set(results.values()) <= {0, -9}, results
    return base, [point for point, code in results.items() if code == -9]


def check_resumes(base: Path, point: Point, whole: str) -> None:
    """A run goes on from what is there, by itself, to the bits of an undisturbed one."""
    training = Training(root_of(base, point))
    assert training.go_on() == [], point
    assert training.step in EXPECTED_STEPS[point[0]], point
    training.run(END)
    assert training.digest() == whole, point
    # Nor is anything left behind that will never be used.
    root = training.save.root
    assert names(root) == {f"step-{step}" for step in steps(root)}, point


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.exists() else set()


@pytest.mark.timeout(1500)
def test_a_save_killed_at_a_system_call_resumes_to_the_same_bits(killed, whole):
    base, points = killed
    assert len(points) >= (150 if EVERY_POINT else 0.9 * NUM_KILLS), Counter(p[:2] for p in points)
    for point in points:
        check_resumes(base, point, whole)
    print(f"{len(points)} of {len(points)} killed saves resumed to the same bits")


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("error", DISK_ERRORS)
def test_a_save_refused_at_a_system_call_leaves_what_was(strace, killed, whole, tmp_path, error):
    syscalls = DISK_ERRORS[error]
    points = [point for point in killed[1] if point[1] in syscalls]
    if not EVERY_POINT:
        points = some_points(syscalls, NUM_ERRORS)
    base = tmp_path / "refused"
    results = strike(strace, base, dict.fromkeys(syscalls, f"error={error}"), points)
    # 4: a MachineError. 0: it was about clearing up, which the next save does.
    assert 4 in results.values()
    assert set(results.values()) <= {0, 4}, results
    for point, code in results.items():
        left = names(root_of(base, point))
        assert not [name for name in left if name.startswith(".tmp-")], (point, code)
        assert point[0] == "first" or left & {f"step-{AT - 1}", f"step-{AT}"}, (point, code)
        check_resumes(base, point, whole)
    print(f"{error}: {len(results)} of {len(results)} refused saves left what was there before")
