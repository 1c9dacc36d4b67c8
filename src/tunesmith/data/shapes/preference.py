"""Two answers to one prompt: chosen and rejected, in the forms in which they are handed around.

The prompt is a text (`prompt`, `question`), an Alpaca instruction, a list of turns (`messages`,
`conversations`, OpenAI's `input`), or stands at the beginning of both answers: as turns (TRL), or
in a transcript of `Human:` and `Assistant:` (HH, arXiv:2204.05862).
"""

from dataclasses import dataclass, replace
from typing import Any

from tunesmith.data.row import Conversation, Message, Preference, RowProblem, num_common, show
from tunesmith.data.shapes import alpaca, chat, sharegpt
from tunesmith.data.shapes.base import answer_of, text_of
from tunesmith.data.tools import read_tools
from tunesmith.data.transcript import is_transcript, read_transcript
from tunesmith.data.turns import check_turns

KEYS = "chosen, rejected; prompt, messages, conversations or instruction; margin if wanted"
RANK = 5
FOR = "the preference methods, such as dpo"

ANSWERS = (
    ("chosen", "rejected"),
    ("preferred_output", "non_preferred_output"),
    ("chosen_messages", "rejected_messages"),
)
"""TRL and most others; OpenAI; LLaMA-Factory's newer one."""

SCORES = (
    ("chosen_score", "rejected_score"),
    ("score_chosen", "score_rejected"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
)

LARGEST = 1e9
"""Of a margin or a score."""


@dataclass(frozen=True, slots=True)
class _Turns:
    """What one side of a row says: an answer, or a prompt with it; `plain` where it is a text."""

    messages: tuple[Message, ...]
    plain: bool = False

    @property
    def whole(self) -> bool:
        return self.messages[0].role in ("system", "user")


def matches(row: dict) -> bool:
    """Whether there are two answers."""
    return any(chosen in row and rejected in row for chosen, rejected in ANSWERS)


def read(row: dict) -> Preference:
    """The prompt with each answer; raises RowProblem where they cannot be compared."""
    keys = next((pair for pair in ANSWERS if pair[0] in row and pair[1] in row), ANSWERS[0])
    sides = [_answer(row.get(key), key) for key in keys]
    asked = _prompt(row)
    if asked is None:
        chosen, rejected = (_with_prompt(side, key) for side, key in zip(sides, keys, strict=True))
        length = num_common(chosen, rejected)
        asked = Conversation(chosen[:length], _tools(row))
    else:
        chosen, rejected = (
            (*asked.messages, *_behind(side, asked, key))
            for side, key in zip(sides, keys, strict=True)
        )
        length = len(asked.messages)
    _check_apart(chosen, rejected, length)
    if not all(side.plain for side in sides):
        asked = replace(asked, kind="chat", plain_prompt=None)
    return Preference(
        *(replace(asked, messages=only_last(side, length)) for side in (chosen, rejected)),
        margin=_margin(row),
    )


def only_last(messages: tuple[Message, ...], length: int) -> tuple[Message, ...]:
    """The messages, with weight 0 for what the assistant says in the first `length`."""
    before = (
        replace(message, weight=0.0) if message.role == "assistant" else message
        for message in messages[:length]
    )
    return (*before, *messages[length:])


def _check_apart(chosen: tuple[Message, ...], rejected: tuple[Message, ...], length: int) -> None:
    """Raises unless two different answers stand behind `length` messages that are the same."""
    skip = "remove the row, or set data.on_bad_row: skip"
    if chosen == rejected:
        raise RowProblem("chosen and rejected are the same", "two different answers", skip)
    for messages in (chosen, rejected):
        check_turns(messages)
    if num_common(chosen, rejected) == min(len(chosen), len(rejected)):
        raise RowProblem("one answer is the beginning of the other", "two answers", skip)
    if length == 0 or {chosen[length].role, rejected[length].role} != {"assistant"}:
        at = f"message {length + 1}: {show(chosen[length].content)}"
        at += f" and {show(rejected[length].content)}"
        raise RowProblem(f"chosen and rejected with different prompts ({at})", "one prompt", skip)


def _answer(value: Any, what: str) -> _Turns:
    """One side of a row: a text, a transcript, a message, or a list of them."""
    if isinstance(value, str) and is_transcript(value):
        return _Turns(read_transcript(value, what))
    if isinstance(value, list | dict):
        return _Turns(_turns(value, what))
    return _Turns((Message("assistant", answer_of(value, what)),), plain=True)


def _turns(value: list | dict, what: str) -> tuple[Message, ...]:
    """Messages with `role` and `content`, or with `from` and `value`."""
    listed = [value] if isinstance(value, dict) else value
    if not listed:
        raise RowProblem(f"{what}: no messages", "at least an assistant message")
    sharegpt_like = isinstance(listed[0], dict) and "from" in listed[0]
    reader = sharegpt if sharegpt_like else chat
    return reader.read_messages(listed, what)


def _with_prompt(side: _Turns, what: str) -> tuple[Message, ...]:
    """A side that must say its prompt itself."""
    if side.whole:
        return side.messages
    raise RowProblem(
        f"{what} without a prompt",
        "a prompt, messages, conversations or an instruction; or one at the beginning of each side",
    )


def _behind(side: _Turns, asked: Conversation, what: str) -> tuple[Message, ...]:
    """The answer of a side, without the prompt where it repeats that."""
    if not side.whole:
        return side.messages
    length = len(asked.messages)
    if side.messages[:length] == asked.messages and len(side.messages) > length:
        return side.messages[length:]
    raise RowProblem(
        f"{what} with a prompt that is not the row's ({show(side.messages[0].content)})",
        "the answer alone, or behind the same prompt",
    )


def _prompt(row: dict) -> Conversation | None:
    """The prompt that stands beside the answers; None where there is none."""
    if "instruction" in row:
        return alpaca.read_prompt(row)
    system = _system(row)
    for key in ("messages", "conversations", "input"):
        value = row.get(key)
        if key == "input" and isinstance(value, dict):
            value = value.get("messages")
        if value is not None:
            turns = _turns(chat.as_list(value, key), key)
            return Conversation((*system, *turns), _tools(row))
    return _said(row, system)


def _said(row: dict, system: tuple[Message, ...]) -> Conversation | None:
    """The prompt in `prompt` or `question`: a text, a transcript, or turns."""
    key = "prompt" if "prompt" in row else "question"
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, list | dict):
        return Conversation((*system, *_turns(value, key)), _tools(row))
    text = text_of(value, key)
    if is_transcript(text):
        return Conversation((*system, *read_transcript(text, key)), _tools(row))
    kind = "chat" if system else "completion"
    return Conversation((*system, Message("user", text)), _tools(row), kind)


def _system(row: dict) -> tuple[Message, ...]:
    """The row's own system message."""
    system = text_of(row.get("system") or "", "system")
    return (Message("system", system),) if system else ()


def _tools(row: dict) -> tuple[dict, ...]:
    """The tools of the row, or of OpenAI's `input`."""
    inside = row.get("input") if isinstance(row.get("input"), dict) else {}
    return read_tools(row.get("tools") or inside.get("tools"))


def _margin(row: dict) -> float | None:
    """How much better the chosen answer is: `margin`, or the difference of two scores."""
    if row.get("margin") is not None:
        margin, what = _number(row["margin"], "margin"), "margin"
    else:
        scored = [pair for pair in SCORES if None not in (row.get(pair[0]), row.get(pair[1]))]
        if not scored:
            return None
        chosen, rejected = (_number(row[key], key) for key in scored[0])
        margin, what = chosen - rejected, f"{scored[0][0]} less {scored[0][1]}"
    if margin < 0:
        raise RowProblem(f"{what}: {margin:g}", "at least 0: the chosen answer is the better one")
    return margin


def _number(value: Any, what: str) -> float:
    # A whole number of JSON can be larger than any float.
    if type(value) in (int, float) and abs(value) <= LARGEST:
        return float(value)
    raise RowProblem(f"{what}: {show(value)}", "a number")
