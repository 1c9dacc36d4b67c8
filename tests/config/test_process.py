"""Settings of the process: made where the user made none, and before torch is there."""

import ctypes
import os
import subprocess
import sys

import pytest

from tunesmith.config import process

SEES = "print(__import__('os').environ.get('GOMP_SPINCOUNT'), 'torch' in __import__('sys').modules)"

FROM_THE_COMMAND_LINE = f"""
import sys
sys.argv = ["tunesmith", "--version"]
from tunesmith.cli.main import main
try:
    main()
except SystemExit:
    {SEES}
"""

FROM_PYTHON = f"""
import builtins, sys
real = builtins.__import__
def watch(name, *rest, **more):
    if name == "torch" and "torch" not in sys.modules:
        {SEES}
        sys.exit()
    return real(name, *rest, **more)
builtins.__import__ = watch
import tunesmith
tunesmith.train
"""


class Allocator:
    """Stands for the C library: remembers what it is told."""

    def __init__(self) -> None:
        self.told: dict[int, int] = {}

    def mallopt(self, name: int, value: int) -> int:
        self.told[name] = value
        return 1


@pytest.fixture
def allocator(monkeypatch) -> Allocator:
    """On Linux with glibc, nothing set by the user."""
    for name in list(os.environ):
        if name.startswith(("GOMP_", "OMP_", "MALLOC_", "GLIBC_", "LD_PRELOAD")):
            monkeypatch.delenv(name)
    made = Allocator()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: made)
    monkeypatch.setattr(sys, "platform", "linux")
    # So that whatever the code sets is gone after the test.
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return made


def test_what_is_left_open_is_set(allocator: Allocator) -> None:
    process.settle()
    assert os.environ["GOMP_SPINCOUNT"] == process.SPINS
    assert allocator.told == process.MALLOC


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_how_the_user_lets_threads_wait_stays(allocator: Allocator, name: str) -> None:
    os.environ[name] = "7"
    process.settle()
    assert os.environ[name] == "7"
    assert ("GOMP_SPINCOUNT" in os.environ) == (name == "GOMP_SPINCOUNT")


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_the_allocator_of_the_user_stays(allocator: Allocator, name: str) -> None:
    os.environ[name] = "1"
    process.settle()
    assert allocator.told == {}


def test_other_systems_stay_as_they_are(allocator: Allocator, monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    process.settle()
    assert "GOMP_SPINCOUNT" not in os.environ
    assert allocator.told == {}


def test_a_c_library_without_mallopt_is_no_error(allocator: Allocator, monkeypatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    process.settle()
    assert allocator.told == {}


@pytest.mark.skipif(sys.platform != "linux", reason="nothing is set on other systems")
@pytest.mark.parametrize("start", [FROM_THE_COMMAND_LINE, FROM_PYTHON])
def test_both_ways_in_settle_before_torch_is_loaded(start: str) -> None:
    left = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "OMP_"))}
    command = [sys.executable, "-c", start]
    done = subprocess.run(command, env=left, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{process.SPINS} False"
