"""Starts one side in a process of its own and brings back what it says and what it took."""

import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

from benchmarks.roster import MALLOC, Side
from benchmarks.sides.steps import RESULT


@dataclass(frozen=True, slots=True)
class Machine:
    """How processes are started.

    Attributes:
        threads: Of OpenMP, the same for every side.
        timeout: Seconds after which a side is stopped.
        lock: A file whose lock is held while a side runs, so that several measurements on one
            machine take turns.
    """

    threads: int
    timeout: float
    lock: Path | None = None


def start(side: Side, python: Path, job: dict[str, Any], machine: Machine) -> dict[str, Any]:
    """Run `side` on `job`.

    Returns:
        What the side printed (`steps`, `settings`, `versions`, `peak_gib`), or `refused` or
        `failed` with the reason; and in any case `wall_seconds`.
    """
    with tempfile.TemporaryDirectory(prefix=f"bench-{side.name}-") as work:
        full = {**job, **side.options, "work": work}
        command = [str(python), str(side.path), json.dumps(full)]
        with turn(machine.lock):
            return run(command, environment(side, machine.threads), machine.timeout)


def run(command: list[str], variables: dict[str, str], timeout: float) -> dict[str, Any]:
    """Run a command that prints a RESULT line, and stop it after `timeout` seconds."""
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(
            command, stdout=out, stderr=err, env=variables, start_new_session=True
        )
        try:
            status, late = child.wait(timeout), ""
        except subprocess.TimeoutExpired:
            status, late = 0, f"over {timeout:.0f} s"
        finally:
            _end(child)
        found = _result(_text(out), _text(err), status, late)
    found["wall_seconds"] = time.monotonic() - begin
    return found


def environment(side: Side, threads: int) -> dict[str, str]:
    """Variables of the child: ours, offline, with equal threads, and malloc settings where due.

    What the shell sets for OpenMP or malloc is taken away: it would favour some sides.
    """
    ours = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("OMP_", "GOMP_", "KMP_", "MKL_", "MALLOC_"))
    }
    fixed = {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_MODE": "disabled",
        "PYTHONUNBUFFERED": "1",
    }
    if side.environment is not None:
        ours.pop("PYTHONPATH", None)
    return {**ours, **fixed, **(MALLOC if side.malloc else {})}


def _end(child: subprocess.Popen) -> None:
    """Stop a child that still runs, with what it started; the harness may be interrupted too."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _result(out: str, err: str, status: int, late: str) -> dict[str, Any]:
    """The RESULT line; without one, why there is none."""
    for line in reversed(out.splitlines()):
        if line.startswith(RESULT):
            return json.loads(line.removeprefix(RESULT))
    last = [line for line in err.strip().splitlines() if line.strip()][-1:]
    return {"failed": late or f"exit {status}: {''.join(last)[:300]}", "stderr": err[-4000:]}


def _text(file: Any) -> str:
    file.seek(0)
    return file.read()


def turn(lock: Path | None) -> Any:
    """A context that holds the lock of a file; without one, it holds nothing."""
    if lock is None:
        return nullcontext()
    file = lock.open("a")
    flock(file, LOCK_EX)
    return file
