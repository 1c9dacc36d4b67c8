"""OpenAI's chat messages: `{"messages": [{"role", "content"}, ...]}`, with tools and weights.

`conversations` is taken for `messages` where its turns have a `role`.
"""

from math import inf
from typing import Any

from tunesmith.data.row import Conversation, Message, RowProblem, show
from tunesmith.data.shapes.base import text_of
from tunesmith.data.strict_json import parse
from tunesmith.data.tools import read_calls, read_tools
from tunesmith.data.turns import check_turns

KEYS = "messages, of role and content; tools if wanted"
RANK = 10

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
"""OpenAI's newer `developer` is the system role, its older `function` the tool role."""

REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")


def matches(row: dict) -> bool:
    """Whether there are messages, or conversations whose first turn has a role.

    A row with a rejected answer is for a preference method; its messages end with the user's.
    """
    if "messages" in row or "rejected" in row:
        return "rejected" not in row
    turns = row.get("conversations")
    return isinstance(turns, list) and bool(turns) and "role" in _keys(turns[0])


def read(row: dict) -> Conversation:
    """The turns and the tools; raises RowProblem for what cannot be trained on."""
    key = "messages" if "messages" in row else "conversations"
    messages = read_messages(row.get(key), key)
    check_turns(messages)
    # OpenAI's older `functions` is the list of tools without the wrapping.
    return Conversation(messages, read_tools(row.get("tools") or row.get("functions")))


def read_messages(value: Any, what: str) -> tuple[Message, ...]:
    """The messages of a list, in any order of roles.

    Args:
        value: The list, or the same as JSON text (how CSV holds it).
        what: The key, for messages.

    Raises:
        RowProblem: With the number of the message that cannot be read.
    """
    listed = as_list(value, what)
    return tuple(_message(part, f"{what}, message {n}") for n, part in enumerate(listed, 1))


def as_list(value: Any, what: str) -> list:
    """A list, or a JSON text of one."""
    parsed = value
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            parsed = parse(value)
        except RowProblem as error:
            got = f"{what}: invalid JSON, {show(value)}"
            raise RowProblem(got, "a list of messages") from error
    if not isinstance(parsed, list):
        raise RowProblem(f"{what}: {show(value)}", "a list of messages")
    return parsed


def read_weight(value: dict, role: str, what: str) -> float | None:
    """How much the loss of a message counts: 0 for no loss, or None where it says nothing.

    Raises:
        RowProblem: No number from 0 on, or more than 0 on a message that is never trained.
    """
    weight = value.get("weight", value.get("loss_weight"))
    if weight is None:
        return None
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < inf:
        raise RowProblem(f"{what}: weight {show(weight)}", "0, 1 or another number from 0 on")
    if weight and role != "assistant":
        got = f"{what}: weight {show(weight)} on a {role} message"
        raise RowProblem(got, "weight only on the assistant's")
    return float(weight)


def _message(value: Any, what: str) -> Message:
    """One message; `what` names it."""
    if "role" not in _keys(value):
        raise RowProblem(f"{what}: {show(value)}", 'an object with "role" and "content"')
    role = ROLES.get(value["role"]) if isinstance(value["role"], str) else None
    if role is None:
        raise RowProblem(f"{what}: role {show(value['role'])}", f"one of {', '.join(ROLES)}")
    old_call = value.get("function_call")
    calls = value.get("tool_calls") or ([old_call] if old_call else [])
    if calls and role != "assistant":
        raise RowProblem(f"{what}: tool_calls from {role!r}", "tool_calls only from 'assistant'")
    content = value.get("content")
    if content is None and not calls:
        raise RowProblem(f"{what}: no content", 'a text in "content"')
    text, thought = _content(content, what)
    thoughts = [thought, *(text_of(value.get(key) or "", what) for key in REASONING_KEYS)]
    return Message(
        role,
        text,
        tool_calls=read_calls(calls, what),
        name=value.get("name"),
        tool_call_id=value.get("tool_call_id"),
        weight=read_weight(value, role, what),
        reasoning=next((thought for thought in thoughts if thought), ""),
    )


def _content(value: Any, what: str) -> tuple[str, str]:
    """Text and reasoning of a content: a text, a list of parts, or nothing beside tool calls."""
    if not isinstance(value, list):
        return text_of("" if value is None else value, f"{what}, content"), ""
    texts: dict[str, list[str]] = {"text": [], "reasoning": []}
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str) or kind not in texts:
            named = f"a part of type {show(kind)}" if kind else f"a part {show(part)}"
            raise RowProblem(f"{what}: {named}", 'parts of type "text" only')
        texts[kind].append(text_of(part.get("text", part.get("value")), f"{what}, {kind} part"))
    return "".join(texts["text"]), "".join(texts["reasoning"])


def _keys(value: Any) -> dict:
    """The value when it is an object, else one without keys."""
    return value if isinstance(value, dict) else {}
