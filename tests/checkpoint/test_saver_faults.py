"""A run's own save, killed or refused by the disk at its system calls: it resumes to equal bits.

In the suite a seeded choice of points; every point there is with TUNESMITH_FAULTS=all.
"""

import json
import os
import random
import subprocess
import sys
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
def whole(tmp_path_factory) -> str:
    """What a training ends in that nothing happened to."""
    training = Training(tmp_path_factory.mktemp("whole") / "checkpoints")
    training.run(END)
    return training.digest()


def strike(strace: str, base: Path, rounds: dict[str, dict]) -> dict[str, dict[Point, int]]:
    """Exit code, or minus the signal, of the save at each point of each round."""
    root = Path(tunesmith.__file__).parents[1]
    done = subprocess.run(
        [
            *(sys.executable, "-B", "-m", "tests.checkpoint.saver_points"),
            *(str(base), strace, json.dumps(rounds)),
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
    told = json.loads(done.stdout)
    return {name: {tuple(p): code for p, code in told[name]} for name in rounds}


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
def struck(strace, tmp_path_factory) -> tuple[Path, dict[str, dict[Point, int]]]:
    """Folders left by saves that were struck, by the name of the fault, and what became of each."""
    base = tmp_path_factory.mktemp("struck")
    some = None if EVERY_POINT else some_points(LIMITS, NUM_KILLS)
    kills = {"KILL": {"faults": dict.fromkeys(LIMITS, "signal=KILL"), "points": some}}
    errors = {
        error: {
            "faults": dict.fromkeys(syscalls, f"error={error}"),
            "points": some_points(syscalls, NUM_ERRORS),
        }
        for error, syscalls in DISK_ERRORS.items()
    }
    if not EVERY_POINT:
        return base, strike(strace, base, kills | errors)
    results = strike(strace, base, kills)
    for error, syscalls in DISK_ERRORS.items():
        errors[error]["points"] = [point for point in results["KILL"] if point[1] in syscalls]
    again = tmp_path_factory.mktemp("refused")
    (again / "KILL").symlink_to(base / "KILL")
    return again, results | strike(strace, again, errors)


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
def test_a_save_killed_at_a_system_call_resumes_to_the_same_bits(struck, whole):
    base, results = struck[0] / "KILL", struck[1]["KILL"]
    assert set(results.values()) <= {0, -9}, results
    killed = [point for point, code in results.items() if code == -9]
    assert len(killed) >= (150 if EVERY_POINT else 0.9 * NUM_KILLS), results
    for point in killed:
        check_resumes(base, point, whole)
    print(f"{len(killed)} of {len(killed)} killed saves resumed to the same bits")


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("error", DISK_ERRORS)
def test_a_save_refused_at_a_system_call_leaves_what_was(struck, whole, error):
    base, results = struck[0] / error, struck[1][error]
    # 4: a MachineError. 0: it was about clearing up, which the next save does.
    assert 4 in results.values()
    assert set(results.values()) <= {0, 4}, results
    for point, code in results.items():
        left = names(root_of(base, point))
        assert not [name for name in left if name.startswith(".tmp-")], (point, code)
        assert point[0] == "first" or left & {f"step-{AT - 1}", f"step-{AT}"}, (point, code)
        check_resumes(base, point, whole)
    print(f"{error}: {len(results)} of {len(results)} refused saves left what was there before")
