"""Chat templates are rendered in a process of their own: this is our end of it.

The process is started with the first conversation and kept. It has no environment, no files and a
bounded memory; the processor time of a rendering is bounded by the kernel, so that neither a
template without end nor one frozen in a single operation can keep a run waiting.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

from tunesmith.errors import CommandError, MachineError, ModelError

CHILD = Path(__file__).with_name("sandbox_child.py")

MAX_TEMPLATE_BYTES = 64 * 2**10
"""The longest templates in use have about 20 KB."""
MAX_ROW_BYTES = 8 * 2**20
"""Of a conversation as JSON."""
BATCH_BYTES = 2**20
"""Conversations are handed over together until they have more than this."""

KEPT = ("LD_LIBRARY_PATH", "TZ")
"""Of the environment; the rest, keys and tokens among it, is not handed on."""

Cut = tuple[int, bool]
"""How many turns are rendered, and whether an answer is opened behind them."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A conversation to render.

    Attributes:
        messages: As a template takes them; no value is None.
        tools: In OpenAI's form; may be empty.
        cuts: What to render of it, at least one.
    """

    messages: Sequence[dict]
    tools: Sequence[dict]
    cuts: Sequence[Cut]

    def as_json(self) -> str:
        """As the process reads it."""
        parts = {"messages": self.messages, "tools": list(self.tools) or None, "cuts": self.cuts}
        return json.dumps(parts, default=_placeholder)


@dataclass(frozen=True, slots=True)
class Refused:
    """What a template, in its own words, refused a conversation with."""

    says: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """In place of the texts of a conversation with more than MAX_ROW_BYTES."""


Answer = list[str] | Refused | TooLarge


@dataclass(frozen=True)
class Program:
    """A template, and what it sees besides the conversation.

    Attributes:
        source: The template.
        names: Its variables: the special tokens.
        now: The time it is told, in ISO form; None for the clock's.
        owner: Whose it is, for messages.
    """

    source: str
    names: dict[str, str]
    now: str | None
    owner: str
    number: int = field(default_factory=count().__next__)

    def __post_init__(self) -> None:
        size = len(self.source.encode("utf-8", "surrogatepass"))
        if size > MAX_TEMPLATE_BYTES:
            raise ModelError(
                self.where,
                got=f"{size:,} bytes",
                expected=f"at most {MAX_TEMPLATE_BYTES:,}",
                hint="use the chat template that the base was published with",
            )

    @property
    def where(self) -> str:
        """Names the template in messages."""
        return f"chat template of {self.owner}"

    def render(self, rows: Sequence[Asked]) -> list[Answer]:
        """The texts of some conversations, for each one a cut.

        Raises:
            ModelError: It is no template, or went beyond a limit of time, memory or length.
            MachineError: The process cannot be started.
        """
        answers: list[Answer] = []
        batch: list[str] = []
        for row in rows:
            text = row.as_json()
            if sum(map(len, batch)) + len(text) > BATCH_BYTES:
                answers += self._ask(batch)
                batch = []
            if len(text) > MAX_ROW_BYTES:
                answers.append(TooLarge())
            else:
                batch.append(text)
        return answers + self._ask(batch)

    def text(self, messages: Sequence[dict], opened: bool) -> str:
        """A conversation as a user has it, with the opening of an answer behind it or not.

        Raises:
            CommandError: The template refuses it.
            ModelError: As `render`.
        """
        turns = [{k: v for k, v in turn.items() if v is not None} for turn in messages]
        answer = self.render([Asked(turns, (), [(len(turns), opened)])])[0]
        if isinstance(answer, list):
            return answer[0]
        says = answer.says if isinstance(answer, Refused) else "it is too long"
        raise CommandError(
            self.where, got=f"messages that it refuses ({says})", expected="roles that it knows"
        )

    def _ask(self, rows: list[str]) -> list[Answer]:
        if not rows:
            return []
        answer = _PROCESS.ask(self, rows)
        if "broken" in answer:
            raise ModelError(
                self.where, got=f"no valid template ({answer['broken']})", expected="Jinja"
            )
        if "limit" in answer:
            raise self._beyond(answer["limit"])
        return [Refused(row) if isinstance(row, str) else _whole(row) for row in answer["rows"]]

    def _beyond(self, limit: str) -> ModelError:
        return ModelError(
            self.where,
            got=f"{limit} for one conversation",
            expected="a template that stays within 1 s, 16 million characters and 256 MiB",
            hint="do not use this base before somebody has read its chat_template",
        )


class _Process:
    """The process, started when it is needed and again when it has ended."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._parent = os.getpid()
        self._known: set[int] = set()

    def ask(self, program: Program, rows: list[str]) -> dict[str, Any]:
        """The answer to a request about a program; the rows come as JSON."""
        with self._lock:
            child = self._alive()
            head: dict[str, Any] = {"template": program.number}
            if program.number not in self._known:
                head |= {"source": program.source, "names": program.names, "now": program.now}
            line = f'{json.dumps(head)[:-1]}, "rows": [{", ".join(rows)}]}}\n'
            try:
                child.stdin.write(line.encode("ascii"))
                child.stdin.flush()
                answer = child.stdout.readline()
            except BrokenPipeError:
                answer = b""
            except BaseException:
                # An answer that is still to come would be taken for that of the next request.
                child.kill()
                raise
            if not answer.endswith(b"\n"):
                return self._died(child)
            told = json.loads(answer)
            if "rows" in told:
                self._known.add(program.number)
            return told

    def end(self) -> None:
        """End the process, if there is one."""
        child, self._child = self._child, None
        if child is None or self._parent != os.getpid():
            return
        child.kill()
        child.communicate()

    def _alive(self) -> subprocess.Popen[bytes]:
        """The process; a new one where there is none, it has ended, or it is another's."""
        if self._parent != os.getpid():
            # After a fork both would read from one pipe.
            self._child, self._parent = None, os.getpid()
        if self._child is not None and self._child.poll() is not None:
            self.end()
        if self._child is None:
            self._child, self._known = _start(), set()
        return self._child

    def _died(self, child: subprocess.Popen[bytes]) -> dict[str, Any]:
        """What the end of the process says about the template."""
        code = child.wait()
        self.end()
        if code == -signal.SIGPROF:
            return {"limit": "more than 1 s of processor time"}
        if code < 0:
            return {"limit": f"the end of its process by {signal.Signals(-code).name}"}
        raise MachineError(
            "chat template",
            got=f"a process that ended with {code} before it answered",
            expected="a process to render in",
            hint=f"see what this says: {sys.executable} -P {CHILD}",
        )


def _whole(row: list) -> list[str]:
    """The texts of a row: what each shares with the first is not sent again."""
    first, *others = row
    return [first, *(first[:shared] + rest for shared, rest in others)]


def _start() -> subprocess.Popen[bytes]:
    paths = [path for path in sys.path if path and os.path.exists(path)]
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-S", "-B", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | {"PYTHONPATH": os.pathsep.join(paths)},
        )
    except OSError as error:
        raise MachineError(
            "chat template", got=f"{error.strerror or error}", expected="a process to render in"
        ) from error


def _placeholder(value: object) -> str:
    """What no JSON can hold, dates in a table for one, shows its type as in transformers."""
    return f"<{type(value).__name__}>"


_PROCESS = _Process()
atexit.register(_PROCESS.end)
