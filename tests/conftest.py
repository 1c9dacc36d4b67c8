"""What all tests share: a fixed environment, and the starter base for tests of a real model."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ENVIRONMENT = {
    "COLUMNS": "100",
    "LC_ALL": "C.UTF-8",
    "LINES": "40",
    "TERM": "xterm-256color",
    "TOKENIZERS_PARALLELISM": "false",
    "TZ": "UTC",
}
"""Set for every test, so that widths, colours, times and messages are the same everywhere."""

UNSET = (
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "DISPLAY",
    "FORCE_COLOR",
    "GITHUB_ACTIONS",
    "LANG",
    "LANGUAGE",
    "NO_COLOR",
    "PY_COLORS",
    "WAYLAND_DISPLAY",
)

NUM_THREADS = 1
"""Of torch in every test and in what it starts: sums, and so bits, depend on the number. Tests run
in two processes; with more threads than cores each waits for the others at every product."""

settings.register_profile("ci", max_examples=100)
settings.register_profile("nightly", max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def same_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same variables and number of threads on every machine."""
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", str(NUM_THREADS))
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(NUM_THREADS)


@pytest.fixture(scope="session")
def starter() -> Path:
    """Folder of the starter base; made in TUNESMITH_HOME on first use, which takes a minute."""
    from tunesmith.models.starter import ensure

    return ensure()
