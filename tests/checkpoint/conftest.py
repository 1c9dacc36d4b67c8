"""What several tests of checkpoints share."""

import platform
import shutil

import pytest


@pytest.fixture(scope="session")
def strace() -> str:
    """Path of strace, where it can be attached to a process."""
    if platform.machine() != "x86_64":
        pytest.skip("the names of the system calls are those of x86_64")
    path = shutil.which("strace")
    if not path:
        pytest.skip("strace is not installed: saves were not struck at their system calls")
    return path
