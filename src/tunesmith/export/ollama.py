"""Writes a Modelfile whose template renders conversations as the chat template of training does.

Ollama has templates of its own, in Go's language. What stands around each message is found by
rendering messages that mark their place; the Go template is then written by construction, rendered
and compared, byte for byte, with the tokenizer's own rendering of other conversations.

How Ollama uses it (its server/prompt.go and template/template.go): messages of the same role are
joined, the template sees `.Messages`, the text goes to the tokenizer with special tokens
recognised, and BOS is put before it where the GGUF file says so.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from transformers import PreTrainedTokenizerBase

from tunesmith.data.chat_text import program
from tunesmith.data.tokenizer_facts import stop_texts
from tunesmith.errors import CommandError, ModelError
from tunesmith.export.go_template import render

Messages = list[dict[str, str]]
Renders = Callable[[Messages, bool], str]
"""Writes messages as in training, open for an answer or not."""

SYSTEM, USER, ANSWER, NEXT = "qzsystemzq", "qzuserzq", "qzanswerzq", "qznextzq"
"""Messages that mark their place in a rendered conversation."""

USUAL = ("Hello", "a\nb", "Grüße, 世界 🎉", '{{ "x" }} {% y %} \\n """')
THINKING = "<think>\nhm\n</think>\n\nyes"
EDGES = ("", " x ", "\nx\n")
"""Contents that a template may trim or leave out, which Go's templates cannot."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around messages.

    Attributes:
        head: Before everything.
        default: Behind the head where there is no system message.
        system: Before and behind a system message.
        user: Before and behind a user message.
        answer: Before and behind an answer of the model.
        opening: Behind the last message, for the model to go on.
    """

    head: str
    default: str
    system: tuple[str, str]
    user: tuple[str, str]
    answer: tuple[str, str]
    opening: str


@dataclass(frozen=True, slots=True)
class Parity:
    """How the written template compares with that of training.

    Attributes:
        conversations: Rendered by both.
        equal: Of them, equal in every byte.
        differs_on: What the others have in common; empty when all are equal.
    """

    conversations: int
    equal: int
    differs_on: str = ""


def template(tokenizer: PreTrainedTokenizerBase, adds_bos: bool) -> tuple[str, Parity]:
    """The Go template, and the comparison that it passed.

    Args:
        tokenizer: With the chat template of training.
        adds_bos: Whether the reader of the GGUF file puts BOS before the text itself.

    Raises:
        ModelError: A chat template that cannot be written so.
    """
    chat = tokenizer.chat_template
    if not isinstance(chat, str):
        raise _refused("a base without a chat template", "one with a single chat template")
    if "strftime_now" in chat:
        raise _refused("a chat template that writes the date", "one that depends on messages alone")
    bos = str(tokenizer.bos_token) if adds_bos else ""
    sandboxed = program(tokenizer)

    def trained(messages: Messages, opened: bool) -> str:
        try:
            text = sandboxed.text(messages, opened)
        except CommandError as error:
            got = f"a chat template that refuses turns ({error.got})"
            raise _refused(got, "one that writes all turns") from error
        return text.removeprefix(bos)

    written = _go(_frame(trained))
    unequal = _unequal(written, trained, USUAL)
    if unequal:
        raise _refused(
            f"a chat template that does more than put text around messages: {unequal[0]!r}",
            "text around each message that depends on its role alone",
        )
    edges = _unequal(written, trained, EDGES)
    total = len(_conversations(USUAL)) + len(_conversations(EDGES))
    differs = "empty messages, or white space around them" if edges else ""
    return written, Parity(total, total - len(edges), differs)


def modelfile(
    tokenizer: PreTrainedTokenizerBase,
    stop_ids: frozenset[int],
    gguf_name: str,
    adds_bos: bool,
    licence: str = "",
) -> tuple[str, Parity]:
    """The text of a Modelfile, and how its template compares.

    Args:
        tokenizer: Of training.
        stop_ids: Tokens that end an answer.
        gguf_name: Name of the file beside it.
        adds_bos: As in that file.
        licence: Of the weights; left out when empty.

    Raises:
        ModelError: A chat template that cannot be written so.
    """
    written, parity = template(tokenizer, adds_bos)
    lines = [f"FROM ./{gguf_name}", f'TEMPLATE """{written}"""']
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in stop_texts(tokenizer, stop_ids)]
    if licence:
        lines.append(f"LICENSE {_quoted(licence)}")
    if parity.differs_on:
        lines.insert(0, f"# Renders as in training, but for {parity.differs_on}.")
    return "\n".join(lines) + "\n", parity


def _frame(trained: Renders) -> Frame:
    """What stands around messages, found by rendering some that mark their place."""
    system, user = {"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}
    answer, later = {"role": "assistant", "content": ANSWER}, {"role": "user", "content": NEXT}
    before_system, between = _around(trained([system, user], False), SYSTEM, USER)[:2]
    before_user, user_post = _around(trained([user], False), USER)
    _, to_answer, answer_post = _around(trained([user, answer], False), USER, ANSWER)
    to_next = _around(trained([user, answer, later], False), USER, ANSWER, NEXT)[2]
    opened = _around(trained([user], True), USER)[1]
    user_pre = _behind(to_next, answer_post)
    default = _before(before_user, user_pre)
    head = _common_start(before_system, default)
    return Frame(
        head,
        default.removeprefix(head),
        (before_system.removeprefix(head), _before(between, user_pre)),
        (user_pre, user_post),
        (_behind(to_answer, user_post), answer_post),
        _behind(opened, user_post),
    )


def _common_start(before_system: str, default: str) -> str:
    """A head that both share, such as BOS; a whole default system message shares more than that."""
    return default if before_system.startswith(default) else ""


def _around(text: str, *marks: str) -> list[str]:
    pieces = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            raise _refused("a chat template that leaves a message out", "one that writes all")
        pieces.append(before)
    return [*pieces, text]


def _behind(text: str, start: str) -> str:
    if not text.startswith(start):
        raise _refused(f"{text!r} between two messages", f"something behind {start!r}")
    return text[len(start) :]


def _before(text: str, end: str) -> str:
    if not text.endswith(end):
        raise _refused(f"{text!r} before a user message", f"something before {end!r}")
    return text[: len(text) - len(end)]


def _go(frame: Frame) -> str:
    """The frame as a Go template; every literal is quoted, so that no text is taken for code."""
    start = _literal(frame.head)
    if frame.default:
        start += f'{{{{ if ne $m.Role "system" }}}}{_literal(frame.default)}{{{{ end }}}}'
    lines = ["{{- range $i, $m := .Messages }}"]
    lines.append("{{- $last := eq (len (slice $.Messages $i)) 1 }}")
    if start:
        lines.append(f"{{{{- if eq $i 0 }}}}{start}{{{{ end }}}}")
    content = "{{ $m.Content }}"
    for number, (role, (pre, post)) in enumerate(
        {"system": frame.system, "user": frame.user, "assistant": frame.answer}.items()
    ):
        behind = _literal(post)
        if role == "assistant" and behind:
            # An answer that comes last is one to go on with.
            behind = f"{{{{ if not $last }}}}{behind}{{{{ end }}}}"
        keyword = "else if" if number else "if"
        lines.append(f'{{{{- {keyword} eq $m.Role "{role}" }}}}{_literal(pre)}{content}{behind}')
    lines.append("{{- end }}")
    if frame.opening:
        condition = 'and $last (ne $m.Role "assistant")'
        lines.append(f"{{{{- if {condition} }}}}{_literal(frame.opening)}{{{{ end }}}}")
    return "\n".join([*lines, "{{- end }}"])


def _literal(text: str) -> str:
    """An action that writes `text`. Go reads the escapes of JSON as JSON does."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""


def _conversations(contents: Sequence[str]) -> list[Messages]:
    """Conversations of one to three turns with these contents, a system message before some."""
    found = []
    for system, turns in product([None, *contents], (1, 2, 3)):
        for shift in range(len(contents)):
            messages = [] if system is None else [{"role": "system", "content": system}]
            for turn in range(2 * turns - 1):
                role = "assistant" if turn % 2 else "user"
                content = contents[(turn + shift) % len(contents)]
                messages.append({"role": role, "content": content})
            found.append(messages)
    if contents is USUAL:
        thought = {"role": "assistant", "content": THINKING}
        ask = {"role": "user", "content": "why?"}
        found.append([ask, thought, ask])
    return found


def _unequal(written: str, trained: Renders, contents: Sequence[str]) -> list[Messages]:
    """The conversations that both render otherwise: open for an answer, or ending in one."""
    bad = []
    for messages in _conversations(contents):
        if render(written, messages) != trained(messages, True):
            bad.append(messages)
            continue
        answered = [*messages, {"role": "assistant", "content": "so"}]
        if not trained(answered, False).startswith(render(written, answered)):
            bad.append(messages)
    return bad


def _quoted(text: str) -> str:
    return f'"""{text}"""' if '"' in text else f'"{text}"'


def _refused(got: str, expected: str) -> ModelError:
    return ModelError(
        "export to Ollama",
        got=got,
        expected=expected,
        hint="tunesmith export --to gguf keeps the chat template as it is, for llama.cpp",
    )
