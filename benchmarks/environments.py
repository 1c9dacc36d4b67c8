"""An environment of its own for every peer, made from the package index and kept.

`pins/<name>.txt` holds every package with its version, torch apart, as pip froze them from a fresh
install. They are installed without looking at dependencies: what is pinned is whole, and a pin that
was left out on purpose (torchvision for CUDA, say) stays out.
"""

import hashlib
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

from tunesmith.config.home import home

PINS = Path(__file__).parent / "pins"
TORCH = "torch==2.13.0"
"""Installed first and alone, by its exact version: any looser request may bring gigabytes of CUDA.
Every side computes with this one."""


def python_of(name: str | None, tell: Callable[[str], None] = print) -> Path:
    """The interpreter of an environment, which is made first if it is missing or outdated.

    Args:
        name: Of a file in `pins/`; None for the environment that this runs in.
        tell: Gets a line before something takes minutes.

    Raises:
        RuntimeError: pip failed; its last lines are in the message.
    """
    if name is None:
        return Path(sys.executable)
    pins = PINS / f"{name}.txt"
    folder = home() / "benchmarks" / name
    python, mark = folder / "bin" / "python", folder / ".installed"
    wanted = hashlib.sha256(TORCH.encode() + pins.read_bytes()).hexdigest()
    if mark.is_file() and mark.read_text() == wanted:
        return python
    tell(f"making the environment {folder} (about 1.5 GB, a minute or two)")
    venv.create(folder, clear=True, with_pip=True)
    _pip(python, TORCH)
    _pip(python, "--no-deps", "-r", str(pins))
    mark.write_text(wanted)
    return python


def _pip(python: Path, *what: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q", *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise RuntimeError(f"{' '.join(command)}: pip failed\n{last}")
