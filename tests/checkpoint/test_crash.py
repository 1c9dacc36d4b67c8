"""Checkpoints under real kills and real disk errors, at every point of a save."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import tunesmith
from tests.checkpoint.strikes import LIMITS, Point, root_of
from tunesmith.checkpoint.commit import commit
from tunesmith.checkpoint.layout import steps
from tunesmith.checkpoint.verify import latest, verify

HERE = Path(__file__).parent
KILLS = dict.fromkeys(sorted(LIMITS.keys() - {"read"}), "signal=KILL")
"""A kill before a read leaves what one before the next call leaves."""
ERRORS = {
    "write": "error=ENOSPC",
    "mkdir": "error=ENOSPC",
    "openat": "error=EDQUOT",
    "fsync": "error=EIO",
    "rename": "error=EROFS",
}


def run(command: list[str]) -> object:
    """What a driver script prints, which is JSON."""
    root = Path(tunesmith.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{Path(__file__).parents[2]}"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    if "strace may not trace here" in done.stderr:
        pytest.skip("strace may not trace here: saves were not struck at their system calls")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_random_kills_lose_no_acknowledged_checkpoint(tmp_path):
    script = str(HERE / "save_until_killed.py")
    rounds = run([sys.executable, script, str(tmp_path / "checkpoints"), "15", "20261123"])
    assert len(rounds) == 15
    for told in rounds:
        assert told["good"], told
        assert told["quarantined"] == 0, told
        assert told["found"] >= told["acknowledged"], told
    assert rounds[-1]["found"] > 15, "the child hardly ever finished a save: nothing was tested"


def strike(strace: str, base: Path, faults: dict, points: list[Point]) -> dict[Point, int]:
    """Let the driver strike at these points, or at all; the exit code or -signal of each."""
    base.mkdir()
    driver = [sys.executable, "-B", "-m", "tests.checkpoint.kill_points", str(base), strace]
    told = run([*driver, json.dumps(faults), json.dumps(points)])
    return {tuple(point): code for point, code in told}


@pytest.fixture(scope="module")
def killed(strace, tmp_path_factory) -> tuple[Path, dict[Point, int]]:
    """Folders left by kills at each system call of four scenarios, and the points."""
    base = tmp_path_factory.mktemp("kills") / "roots"
    return base, strike(strace, base, KILLS, [])


EXPECTED_STEPS = {"save": {10, 20}, "replace": {20}, "retain": {30}, "recover": {20, 30}}


def test_kill_at_each_system_call_leaves_a_whole_checkpoint(killed):
    base, results = killed
    counts = Counter(scenario for scenario, *_ in results)
    assert min(counts[scenario] for scenario in EXPECTED_STEPS) >= 20, counts
    for point, code in results.items():
        assert code == -9, point
        root, scenario = root_of(base, point), point[0]
        found = latest(root)
        assert found.quarantined == [], point
        assert found.manifest.step in EXPECTED_STEPS[scenario], point
        content = found.manifest.extra["content"]
        assert (found.manifest.folder / "state.json").read_text() == content, point
        # Half a checkpoint is found by its hashes, but must not come about in the first place.
        whole = {verify(root / f"step-{step}").step for step in steps(root)}
        assert scenario != "retain" or 10 in whole, point


def test_the_save_after_a_kill_clears_up(killed):
    base, results = killed
    for point in results:
        root = root_of(base, point)
        commit(root, 90, lambda folder: (folder / "state.json").write_bytes(b"{}"))
        names = sorted(entry.name for entry in root.iterdir())
        assert names == sorted(f"step-{step}" for step in steps(root)), point


def test_disk_error_at_each_system_call_of_a_save_is_a_machine_error(strace, killed, tmp_path):
    points = [p for p in killed[1] if p[0] in ("save", "replace") and p[1] in ERRORS]
    results = strike(strace, tmp_path / "roots", ERRORS, points)
    assert len(results) == len(points) > 40
    for point, code in results.items():
        where = f"{ERRORS[point[1]]} at {point} gave {code}"
        # Some calls only make things tidier; the save then goes on.
        assert code in (0, 4), where
        root = root_of(tmp_path / "roots", point)
        assert not list(root.glob(".tmp-*")), where
        found = latest(root)
        if code == 0:
            assert found.manifest.step == 20, where
            assert found.manifest.extra["content"] == "new", where
        else:
            assert found.manifest.step in EXPECTED_STEPS[point[0]], where
    assert sum(code == 4 for code in results.values()) > len(results) / 2
