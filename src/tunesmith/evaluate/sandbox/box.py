"""Our end of the sandbox: hands rows to a source that grades them, and outlives what it does."""

import json
import os
import secrets
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from tunesmith.errors import MachineError, RecipeError

WALLS = ("memory", "time", "files", "network", "processes")
"""Those there are; see `walls.py`."""
INSIDE = Path(__file__).with_name("inside.py")

START_SECONDS = 30.0
"""For Python to start and the source to be read, on a clock: importing pandas takes seconds."""
MAX_ANSWER_BYTES = 2**16
"""Of one answer: a score, or a message of at most 500 characters."""
ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}
KEPT = ("LD_LIBRARY_PATH",)
"""All that the source sees of the environment, besides where Python's packages lie."""

Request = tuple[dict[str, Any], dict[str, Any]]
"""`sample` and `item` of a row, as JSON can hold them."""


@dataclass(frozen=True, slots=True)
class Graded:
    """What came of one row.

    Attributes:
        score: What `grade` returned; 0 where there is a failure.
        failure: What went wrong, in a line; empty where nothing did.
    """

    score: float
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A source behind walls.

    Attributes:
        source: Python that defines `grade(sample, item) -> float`.
        seconds: On a clock, for one row.
        memory_mib: Beyond what Python itself holds.
        fresh: A process of its own for each row, for code that must not see the others'.
        readable: Files that the source may read, besides Python's own.
        where: Names the source in messages.
    """

    source: str
    seconds: float
    memory_mib: int
    fresh: bool = False
    readable: tuple[str, ...] = ()
    where: str = "grader"

    def grade(self, rows: Sequence[Request]) -> list[Graded]:
        """Grade rows, in their order.

        A row that ends its process, or overstays, fails alone: the rest go on in a new one.

        Raises:
            RecipeError: The source cannot be read or defines no `grade`.
            MachineError: No process can be started.
        """
        if not self.fresh:
            return self._in_turn(rows)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return [graded for each in pool.map(self._alone, rows) for graded in each]

    def require_grader(self) -> None:
        """Read the source as `grade` would, and raise what that would where it is no grader."""
        with _Child(self, 0):
            pass

    def walls(self) -> list[str]:
        """The walls that stand on this machine: memory, time, files, network, processes."""
        with _Child(replace(self, source="def grade(sample, item): return 0"), 1) as child:
            return child.walls

    def _alone(self, row: Request) -> list[Graded]:
        return self._in_turn([row])

    def _in_turn(self, rows: Sequence[Request]) -> list[Graded]:
        done: list[Graded] = []
        while len(done) < len(rows):
            with _Child(self, len(rows) - len(done)) as child:
                for row in rows[len(done) :]:
                    graded = child.ask(row)
                    done.append(graded)
                    if child.ended:
                        break
        return done


class _Child:
    """One process; use as a context, which ends it with whatever it may have started."""

    def __init__(self, box: Box, num_rows: int) -> None:
        self._box = box
        self._cpu_seconds = int(START_SECONDS + num_rows * box.seconds) + 1
        self.ended = ""
        """Why there will be no further answer; empty while there may be."""
        self.walls: list[str] = []

    def __enter__(self) -> "_Child":
        self._folder = TemporaryDirectory(prefix="tunesmith-grader-")
        try:
            self._process = _start(self._folder.name)
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if process := getattr(self, "_process", None):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdin.close()
            process.stdout.close()
        self._folder.cleanup()

    def ask(self, row: Request) -> Graded:
        """The score of a row."""
        answer = self._call({"sample": row[0], "item": row[1]}, self._box.seconds)
        if "score" in answer:
            return Graded(float(answer["score"]))
        return Graded(0.0, str(answer.get("error") or self.ended))

    def _begin(self) -> None:
        box = self._box
        limits = {"memory_bytes": box.memory_mib * 2**20, "cpu_seconds": self._cpu_seconds}
        work = {"source": box.source, "readable": box.readable, **limits}
        answer = self._call(work, START_SECONDS)
        if "walls" in answer:
            self.walls = answer["walls"]
            return
        got = answer.get("broken") or self.ended
        raise RecipeError(
            box.where, got=f"a source that ends with {got}", expected="def grade(sample, item)"
        )

    def _call(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer to a request; an empty one when the process has ended, by itself or by us."""
        token = secrets.token_hex(8)
        line = json.dumps({**request, "token": token}, default=str).encode("ascii") + b"\n"
        told = self._exchange(line, monotonic() + seconds)
        try:
            answer = json.loads(told) if told.endswith(b"\n") else {}
        except ValueError:
            answer = {}
        if isinstance(answer, dict) and answer.get("token") == token:
            return answer
        self.ended = self.ended or _last_words(self._process)
        return {}

    def _exchange(self, line: bytes, deadline: float) -> bytes:
        """Write a line and read one, neither of them longer than until `deadline`."""
        to, back = self._process.stdin.fileno(), self._process.stdout.fileno()
        told = b""
        while not told.endswith(b"\n"):
            left = deadline - monotonic()
            readable, writable, _ = select.select([back], [to] if line else [], [], max(left, 0))
            if writable:
                try:
                    line = line[os.write(to, line[:4096]) :]
                except BrokenPipeError:
                    line = b""
            if readable:
                part = os.read(back, 4096)
                told += part
                if not part:
                    return told
            if len(told) > MAX_ANSWER_BYTES:
                self.ended = "it answered too much"
                return b""
            if left <= 0:
                self.ended = f"it took more than {self._box.seconds:g} s"
                return b""
        return told


def _start(folder: str) -> subprocess.Popen[bytes]:
    kept = {key: os.environ[key] for key in KEPT if key in os.environ}
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-S", "-B", str(INSIDE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=ENVIRONMENT | kept | {"PYTHONPATH": os.pathsep.join(_packages())},
            start_new_session=True,
        )
    except OSError as error:
        raise MachineError(
            "sandbox", got=f"{error.strerror or error}", expected="a process to grade in"
        ) from error


def _packages() -> list[str]:
    """Folders of installed packages; not those of the user's own files, which nobody is to read."""
    folders = [os.path.abspath(path) for path in sys.path if path and os.path.isdir(path)]
    return [path for path in folders if Path(path).name in ("site-packages", "dist-packages")]


def _last_words(process: subprocess.Popen[bytes]) -> str:
    """How a process ended that answers no more; what still runs is ended."""
    try:
        code = process.wait(1)
    except subprocess.TimeoutExpired:
        return "it answered what was not asked"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with {code}"
