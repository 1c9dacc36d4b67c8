"""A warm process that forks a child for every run: how faults are tried hundreds of times.

Importing torch takes seconds and a tiny run takes less, so a parent imports everything once and
each run is a fork of it. This file is the same for all systems and needs the standard library
alone; what differs is in `lab_trainer.py` and `lab_tunesmith.py`.
"""

import importlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

PATIENCE = 900.0
"""Seconds after which a child is given up. Long: on a shared machine a child may be frozen."""

NUM_STEPS = 16
SAVE_EVERY = 2
KEEP = 2
STOPPED_AT = 12
"""The step after whose save the run is killed that flips, truncations and clocks work on."""

ANSWER = "ANSWER "
"""Opens each line that the parent prints for the harness."""


class System(Protocol):
    """A training program, as the lab drives it; every method runs in a forked child.

    `train` and `resume` return `weights` and `optimizer` (SHA-256 at the end), `finite` (of the
    weights), `said` (warnings, in order) and `resumed` (step gone on from, or None). A run that
    ends otherwise raises.
    """

    def train(self, run: Path, watch: "Watch") -> dict[str, Any]:
        """Train from the beginning, in the new folder `run`."""

    def resume(self, run: Path, watch: "Watch") -> dict[str, Any]:
        """Go on with the system's own documented command."""

    def checkpoints(self, run: Path) -> dict[int, Path]:
        """Folder of each checkpoint by step, whole or not."""

    def versions(self) -> dict[str, str]:
        """Packages with their versions."""


@dataclass
class Watch:
    """What a system calls while it trains, so that faults strike at the right moment.

    Attributes:
        tell: Sends a line to the parent.
        at_save: Called when the save after so many steps begins.
        die_after: The step right after whose save the process kills itself.
        poison: The step whose loss becomes NaN, once.
    """

    tell: Callable[[str], None] = lambda text: None
    at_save: Callable[[int], None] = lambda step: None
    die_after: int | None = None
    poison: int | None = None

    def save_begins(self, step: int) -> None:
        """The system is about to write a checkpoint."""
        self.at_save(step)
        self.tell(f"begin {step} {time.monotonic()}")

    def save_ended(self, step: int) -> None:
        """The system has written it, and deleted what it does not keep."""
        self.tell(f"end {step} {time.monotonic()}")
        if step == self.die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    def poisons(self, step: int) -> bool:
        """Whether the loss of this step (counted from 1) is to be NaN; true once."""
        if step != self.poison:
            return False
        self.poison = None
        return True


@dataclass
class Child:
    """A forked run.

    Attributes:
        pid: Its process.
        pipe: Where its lines come from.
        out: Where it leaves its outcome.
        told: The lines so far, split into words.
    """

    pid: int
    pipe: int
    out: Path
    told: list[list[str]] = field(default_factory=list)
    _rest: bytes = b""
    _status: int | None = None

    def wait_for(self, word: str, step: int) -> list[str] | None:
        """The line `word step ...`; None when the child ended without it."""
        seen = 0
        while True:
            for line in self.told[seen:]:
                if line[:2] == [word, str(step)]:
                    return line
            seen = len(self.told)
            if not self.listen(PATIENCE):
                return None

    def listen(self, seconds: float) -> bool:
        """Read on for at most so long; False at the end of the child, or when nothing came."""
        if not select.select([self.pipe], [], [], seconds)[0]:
            return False
        data = os.read(self.pipe, 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.told += [line.decode().split() for line in lines]
        return bool(data)

    def alive(self) -> bool:
        """Whether it still runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.end()

    def end(self) -> dict[str, Any]:
        """Wait for its end; what came out of it."""
        limit = time.monotonic() + PATIENCE
        while self.listen(max(limit - time.monotonic(), 0.0)):
            pass
        if time.monotonic() >= limit and self.alive():
            os.kill(self.pid, signal.SIGKILL)
        if self._status is None:
            self._status = os.waitpid(self.pid, 0)[1]
        os.close(self.pipe)
        if self.out.is_file():
            return json.loads(self.out.read_text(encoding="utf-8"))
        code = os.waitstatus_to_exitcode(self._status)
        return {"ended": False, "error": f"the process ended with {code}", "said": []}


def fork(action: Callable[[Callable[[str], None]], dict[str, Any]], out: Path) -> Child:
    """Run `action` in a child; it gets the function that sends lines to this process.

    Args:
        action: Returns what came out; what it raises is an outcome too.
        out: File for the outcome; what the child prints goes to the file of this name with `.log`.
    """
    out.unlink(missing_ok=True)
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return Child(pid, read, out)
    try:
        os.close(read)
        log = os.open(f"{out}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        outcome = _outcome(action, lambda text: os.write(write, f"{text}\n".encode()))
        out.write_text(json.dumps(outcome), encoding="utf-8")
    finally:
        os._exit(0)


def _outcome(action: Callable, tell: Callable[[str], None]) -> dict[str, Any]:
    """What a run returned or raised; a refusal of the run is a result here, whatever its class."""
    try:
        return {"ended": True, "error": None, **action(tell)}
    except BaseException as error:
        text = f"{type(error).__name__}: {error}"
        return {"ended": False, "error": text[:400], "said": getattr(error, "said", [])}


def warm(system: System, work: Path) -> None:
    """Train once in a child, and import here whatever modules that has loaded."""

    def first(tell: Callable[[str], None]) -> dict[str, Any]:
        found = system.train(work / "warm", Watch(tell))
        return {**found, "modules": sorted(sys.modules)}

    outcome = fork(first, work / "warm.json").end()
    if not outcome["ended"]:
        raise RuntimeError(f"the system does not train: {outcome['error']}")
    for name in outcome["modules"]:
        if name not in sys.modules and not name.startswith("__"):
            with suppress(ImportError):
                importlib.import_module(name)


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer one JSON question a line from standard input, until it is closed."""
    for line in sys.stdin:
        result = answer(json.loads(line))
        sys.stdout.write(f"{ANSWER}{json.dumps(result)}\n")
        sys.stdout.flush()
