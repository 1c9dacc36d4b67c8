"""`import tunesmith` and `tunesmith --help` are there at once, and without torch."""

import shutil
import subprocess
import sys
import sysconfig
from time import perf_counter

import pytest

MAX_SECONDS = 0.5
TRIES = 3

COMMAND = shutil.which("tunesmith", path=sysconfig.get_path("scripts")) or "tunesmith"
STARTS = {
    "import tunesmith": ["-c", "import tunesmith"],
    "tunesmith --help": [COMMAND, "--help"],
}


@pytest.mark.parametrize("arguments", STARTS.values(), ids=STARTS.keys())
def test_starts_in_half_a_second(arguments: list[str]) -> None:
    seconds = []
    for _ in range(TRIES):
        start = perf_counter()
        done = subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
        seconds.append(perf_counter() - start)
        assert done.returncode == 0, done.stderr.decode()
    assert min(seconds) < MAX_SECONDS


@pytest.mark.parametrize("arguments", STARTS.values(), ids=STARTS.keys())
def test_starts_without_torch(arguments: list[str]) -> None:
    timed = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(timed, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.splitlines()[-1]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "tunesmith" in imported
    assert imported & {"torch", "transformers", "peft", "numpy", "matplotlib", "pyarrow"} == set()
