"""Checkpoints under real kills and real disk errors, at every point of a save."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import tunesmith
from tunesmith.checkpoint.commit import commit
from tunesmith.checkpoint.layout import steps
from tunesmith.checkpoint.verify import latest, verify

HERE = Path(__file__).parent
LIMITS = {"openat": 300} | dict.fromkeys(
    ("fsync", "rename", "mkdir", "write", "unlinkat", "rmdir"), 40
)
"""As in `kill_points.py`."""
KILLS = dict.fromkeys(LIMITS, "signal=KILL")
ERRORS = {
    "write": "error=ENOSPC",
    "mkdir": "error=ENOSPC",
    "openat": "error=EDQUOT",
    "fsync": "error=EIO",
    "rename": "error=EROFS",
}


def run(command: list[str]) -> object:
    """What a driver script prints, which is JSON."""
    environment = {**os.environ, "PYTHONPATH": str(Path(tunesmith.__file__).parents[1])}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
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


@pytest.fixture(scope="module")
def strace() -> str:
    """Path of strace, if it works here."""
    if platform.machine() != "x86_64":
        pytest.skip("the names of the system calls are those of x86_64")
    path = shutil.which("strace")
    if not path:
        pytest.skip("strace is not installed: saves were not killed at each system call")
    tried = subprocess.run([path, "-f", "-qq", "-o", "/dev/null", "true"], check=False)
    if tried.returncode:
        pytest.skip("strace may not trace here: saves were not killed at each system call")
    return path


def strike(strace: str, base: Path, scenarios: list[str], faults: dict, points: dict) -> list:
    """Let the driver run under strace, which strikes with `faults` where the driver wants it."""
    base.mkdir()
    rules = [f"--inject={name}:{fault}:when={LIMITS[name]}" for name, fault in faults.items()]
    traced = [strace, "-f", "-qq", "-o", "/dev/null", f"--trace={','.join(faults)}", *rules]
    driver = [sys.executable, "-B", str(HERE / "kill_points.py"), str(base), json.dumps(points)]
    return run([*traced, *driver, *scenarios])


@pytest.fixture(scope="module")
def killed(strace, tmp_path_factory) -> tuple[Path, list]:
    """Folders left by kills at each system call of four scenarios, and the list of points."""
    base = tmp_path_factory.mktemp("kills") / "roots"
    results = strike(strace, base, ["save", "replace", "retain", "recover"], KILLS, {})
    return base, [tuple(result) for result in results if result[3] != 0]


EXPECTED_STEPS = {"save": {10, 20}, "replace": {20}, "retain": {30}, "recover": {20, 30}}


def test_kill_at_each_system_call_leaves_a_whole_checkpoint(killed):
    base, results = killed
    counts = Counter(scenario for scenario, *_ in results)
    assert min(counts[scenario] for scenario in EXPECTED_STEPS) >= 20, counts
    for scenario, syscall, point, code in results:
        where = f"{scenario}: killed at {syscall} {point}"
        assert code == -9, where
        root = base / f"{scenario}-{syscall}-{point}"
        found = latest(root)
        assert found.quarantined == [], where
        assert found.manifest.step in EXPECTED_STEPS[scenario], where
        content = found.manifest.extra["content"]
        assert (found.manifest.folder / "state.json").read_text() == content, where
        # Half a checkpoint is found by its hashes, but must not come about in the first place.
        whole = {verify(root / f"step-{step}").step for step in steps(root)}
        assert scenario != "retain" or 10 in whole, where


def test_the_save_after_a_kill_clears_up(killed):
    base, results = killed
    for scenario, syscall, point, _ in results:
        root = base / f"{scenario}-{syscall}-{point}"
        commit(root, 90, lambda folder: (folder / "state.json").write_bytes(b"{}"))
        names = sorted(entry.name for entry in root.iterdir())
        assert names == sorted(f"step-{step}" for step in steps(root)), (scenario, syscall, point)


def test_disk_error_at_each_system_call_of_a_save_is_a_machine_error(strace, killed, tmp_path):
    counts = Counter((scenario, syscall) for scenario, syscall, *_ in killed[1])
    points = {
        f"{scenario}/{syscall}": counts[scenario, syscall]
        for scenario in ("save", "replace")
        for syscall in ERRORS
        if counts[scenario, syscall]
    }
    results = strike(strace, tmp_path / "roots", ["save", "replace"], ERRORS, points)
    assert len(results) == sum(points.values())
    for scenario, syscall, point, code in results:
        where = f"{scenario}: {ERRORS[syscall]} at {syscall} {point} gave {code}"
        # Some calls only make things tidier; the save then goes on.
        assert code in (0, 4), where
        root = tmp_path / "roots" / f"{scenario}-{syscall}-{point}"
        assert not list(root.glob(".tmp-*")), where
        found = latest(root)
        if code == 0:
            assert found.manifest.step == 20, where
            assert found.manifest.extra["content"] == "new", where
        else:
            assert found.manifest.step in EXPECTED_STEPS[scenario], where
    assert sum(code == 4 for *_, code in results) > len(results) / 2
