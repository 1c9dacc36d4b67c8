"""Renders chat templates as a program of its own, under limits that only a process can have.

A chat template is somebody else's program. jinja2's sandbox keeps it from Python's internals but
bounds neither its time nor its memory: a nested loop of nine million turns, a text of 100 MB and a
power of big integers all run to their end. Here they end the process, or are told as an error.

Run as `python -P sandbox_child.py` it imports nothing but the standard library and jinja2, and
speaks lines of JSON: a request on standard input, an answer on standard output, until the input
ends, which it also does when the parent dies. See `sandbox.py` for the other end.

The environment is the one that transformers renders with, so that texts are equal byte for byte;
`tests/data/test_sandbox.py` holds the two side by side.
"""

import encodings.unicode_escape
import json
import pprint
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import jinja2.constants
import jinja2.debug
from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.environment import Template
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

LATER = (encodings.unicode_escape, jinja2.constants, jinja2.debug, pprint)
"""What Python and jinja2 would import only when a template needs it: then no file can be opened."""

MAX_SECONDS = 1.0
"""Processor time of one rendering. Not time on a clock: a busy machine does not count."""
MAX_CHARACTERS = 16 * 2**20
"""Of one rendered text."""
MAX_BYTES = 256 * 2**20
"""Address space beyond what the process has after its imports."""
OUT_OF_MEMORY = f"more than {MAX_BYTES // 2**20} MiB of memory"
MAX_MESSAGE = 2000
"""Characters of an error that are handed on."""


class TooLong(Exception):
    """A rendered text went beyond MAX_CHARACTERS."""


class GenerationTag(Extension):
    """The tag `{% generation %}`, which marks answers for transformers; its inside is kept."""

    tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node:
        """The block, without its tags."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_inside"), [], [], body).set_lineno(line)

    def _inside(self, caller: Callable[[], str]) -> str:
        return caller()


class MakeDict:
    """Stands for `dict`, which templates call; the type itself would be a way out."""

    def __call__(self, *values: Any, **named: Any) -> dict:
        """A dict."""
        return dict(*values, **named)

    def fromkeys(self, *values: Any) -> dict:
        """As `dict.fromkeys`."""
        return dict.fromkeys(*values)


class SafeNamespace(Namespace):
    """jinja2's namespace without names that begin with an underscore."""

    def __init__(*values: Any, **named: Any) -> None:  # `self` may be a name in it
        self, rest = values[0], values[1:]
        attributes = dict(*rest, **named)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot have the name {name!r}")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter `tojson`; jinja2's own escapes what means something in HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> None:
    raise TemplateError(message)


def environment(now: str | None) -> ImmutableSandboxedEnvironment:
    """The environment of templates.

    Args:
        now: The time that `strftime_now` writes, in ISO form; None for that of the clock.
    """
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
    )
    fixed = datetime.fromisoformat(now) if now else None
    made.filters["tojson"] = _to_json
    made.globals |= {
        "raise_exception": _raise,
        "strftime_now": lambda form: (fixed or datetime.now()).strftime(form),
        "dict": MakeDict(),
        "namespace": SafeNamespace,
    }
    return made


class Templates:
    """The templates that were compiled, by their number."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Template, dict[str, str]]] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What a request gives: `rows`, or for all of it `broken` or `limit` with a message.

        A row is a list of texts, the first as it is and each other as the number of characters
        that it shares with the first, and what follows them; or what the template refused it with.
        """
        try:
            if "source" in request:
                self._learn(request)
            template, names = self._known[request["template"]]
            return {"rows": [_row(template, names, row) for row in request["rows"]]}
        except TooLong:
            return {"limit": f"more than {MAX_CHARACTERS // 2**20} million characters"}
        except MemoryError:
            return {"limit": OUT_OF_MEMORY}
        except TemplateSyntaxError as error:
            return {"broken": f"line {error.lineno}: {error.message}"[:MAX_MESSAGE]}
        except RecursionError:
            return {"broken": "nested too deeply"}

    def _learn(self, request: dict[str, Any]) -> None:
        _restart_clock()
        template = environment(request["now"]).from_string(request["source"])
        self._known[request["template"]] = (template, request["names"])


def _row(template: Template, names: dict[str, str], row: dict[str, Any]) -> list | str:
    """The texts of a conversation, or the message of what the template raised."""
    try:
        texts = _texts(template, names, row)
        first = next(texts)
        return [first, *(_behind(first, text) for text in texts)]
    except (TooLong, MemoryError):
        raise
    except Exception as error:
        # Whatever else a template makes Python raise is its own way of refusing the turns.
        return (str(error) or type(error).__name__)[:MAX_MESSAGE]


def _behind(first: str, text: str) -> tuple[int, str]:
    """How much of `text` begins `first`, and the rest: the prompts of a row are its beginnings."""
    low, high = 0, min(len(first), len(text))
    if first.startswith(text):
        low = high
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == text[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low, text[low:]


def _texts(template: Template, names: dict[str, str], row: dict[str, Any]) -> Iterator[str]:
    """One text for each pair (number of turns, whether an answer is opened)."""
    messages = [_with_thinking(message) for message in row["messages"]]
    tools = row["tools"]
    for end, opened in row["cuts"]:
        _restart_clock()
        try:
            yield _render(template, names, (messages[:end], tools, opened))
        except TypeError:
            # Some templates add the arguments of a call to a text: they want JSON, not objects.
            _restart_clock()
            turns = [_with_json_arguments(message) for message in messages[:end]]
            yield _render(template, names, (turns, tools, opened))


def _render(
    template: Template, names: dict[str, str], given: tuple[list[dict], list[dict] | None, bool]
) -> str:
    """Render once, counting as the pieces come."""
    messages, tools, opened = given
    pieces, length = [], 0
    for piece in template.generate(
        messages=messages, tools=tools, documents=None, add_generation_prompt=opened, **names
    ):
        length += len(piece)
        if length > MAX_CHARACTERS:
            raise TooLong
        pieces.append(piece)
    return "".join(pieces)


def _with_thinking(message: dict[str, Any]) -> dict[str, Any]:
    """Some templates read reasoning under the name `thinking`."""
    reasoning = next(
        (message[key] for key in ("reasoning_content", "thinking", "reasoning") if key in message),
        None,
    )
    if reasoning is None:
        return message
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _with_json_arguments(message: dict[str, Any]) -> dict[str, Any]:
    """The message with the arguments of its tool calls as JSON text."""
    if "tool_calls" not in message:
        return message
    calls = []
    for call in message["tool_calls"]:
        arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        calls.append({**call, "function": {**call["function"], "arguments": arguments}})
    return {**message, "tool_calls": calls}


def _restart_clock(seconds: float = MAX_SECONDS) -> None:
    """From now on so much processor time until SIGPROF, which ends the process; 0 for no limit."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def shut_in() -> None:
    """Give up what rendering needs not: memory, files, processes. There is no way back."""
    time.localtime()  # reads the time zone's file, while that can be opened
    held = _address_space()
    if held is not None:
        resource.setrlimit(resource.RLIMIT_AS, (held + MAX_BYTES, held + MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    # Ctrl-C goes to the whole group; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _address_space() -> int | None:
    """Bytes of address space now; None on systems that neither tell nor limit it."""
    if sys.platform != "linux":
        return None
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def main() -> None:
    """Answer requests until there are no more."""
    templates = Templates()
    shut_in()
    while line := sys.stdin.buffer.readline():
        _restart_clock()
        answer = templates.answer(json.loads(line))
        try:
            told = json.dumps(answer)
        except MemoryError:
            told = json.dumps({"limit": OUT_OF_MEMORY})
        _restart_clock(0)
        sys.stdout.buffer.write(told.encode("ascii") + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
