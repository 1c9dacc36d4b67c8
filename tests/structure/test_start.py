"""`import tunesmith` and `tunesmith --help` are there at once, and without torch."""

import os
import shutil
import subprocess
import sys
import sysconfig

import pytest

MAX_SECONDS = 0.5
COUNTING = ["-c", "for _ in range(3_000_000): pass"]
COUNTING_SECONDS = 0.1
"""On a machine of which `MAX_SECONDS` are asked; a slower one has as much more."""
TRIES = 3

COMMAND = shutil.which("tunesmith", path=sysconfig.get_path("scripts")) or "tunesmith"
STARTS = {
    "import tunesmith": ["-c", "import tunesmith"],
    "tunesmith --help": [COMMAND, "--help"],
}


def _seconds(arguments: list[str]) -> float:
    """Of processor time, the least of some tries: other tests run beside this one."""
    found = []
    for _ in range(TRIES):
        with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL) as started:
            _, status, used = os.wait4(started.pid, 0)
            started.returncode = os.waitstatus_to_exitcode(status)
        assert started.returncode == 0
        found.append(used.ru_utime + used.ru_stime)
    return min(found)


@pytest.mark.parametrize("arguments", STARTS.values(), ids=STARTS.keys())
def test_starts_in_half_a_second(arguments: list[str]) -> None:
    slower = max(1.0, _seconds(COUNTING) / COUNTING_SECONDS)
    assert _seconds(arguments) < MAX_SECONDS * slower


@pytest.mark.parametrize("arguments", STARTS.values(), ids=STARTS.keys())
def test_starts_without_torch(arguments: list[str]) -> None:
    timed = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(timed, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.splitlines()[-1]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "tunesmith" in imported
    assert imported & {"torch", "transformers", "peft", "numpy", "matplotlib", "pyarrow"} == set()
