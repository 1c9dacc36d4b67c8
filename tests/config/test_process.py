"""Settings of the process: made where the user made none, and before torch is there."""

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


@pytest.fixture
def environment(monkeypatch) -> dict[str, str]:
    """Linux, nothing set by the user; whatever is set is gone after the test."""
    names = ("GOMP_", "OMP_", "ONEDNN_", "DNNL_", "LRU_", "TOKENIZERS_")
    left = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    monkeypatch.setattr(os, "environ", left)
    monkeypatch.setattr(sys, "platform", "linux")
    return left


def test_what_is_left_open_is_set(environment: dict[str, str]) -> None:
    process.settle()
    assert environment["GOMP_SPINCOUNT"] == "2000"
    assert environment["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "256"
    assert environment["LRU_CACHE_CAPACITY"] == "256"


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("GOMP_SPINCOUNT", "GOMP_SPINCOUNT"),
        ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"),
        ("DNNL_PRIMITIVE_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"),
        ("LRU_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"),
    ],
)
def test_what_the_user_has_set_stays(environment, name: str, variable: str) -> None:
    environment[name] = "7"
    process.settle()
    assert environment[name] == "7"
    assert environment.get(variable) == ("7" if variable == name else None)


def test_other_systems_stay_as_they_are(environment: dict[str, str], monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    before = dict(environment)
    process.settle()
    assert environment == {**before, "TOKENIZERS_PARALLELISM": "false"}


@pytest.mark.skipif(sys.platform != "linux", reason="nothing is set on other systems")
@pytest.mark.parametrize("start", [FROM_THE_COMMAND_LINE, FROM_PYTHON])
def test_both_ways_in_settle_before_torch_is_loaded(start: str) -> None:
    left = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "OMP_"))}
    command = [sys.executable, "-c", start]
    done = subprocess.run(command, env=left, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{process.SPINS} False"
