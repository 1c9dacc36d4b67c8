"""ShareGPT: `conversations` of `{"from", "value"}`, with tool calls as LLaMA-Factory writes them.

`function_call` holds `{"name", "arguments"}` as JSON, `observation` what the tool answered, and the
row's `tools` a JSON list of tools.
"""

from typing import Any

from tunesmith.data.row import Conversation, Message, RowProblem, show
from tunesmith.data.shapes.base import text_of
from tunesmith.data.shapes.chat import as_list, read_weight
from tunesmith.data.strict_json import parse
from tunesmith.data.tools import read_calls, read_tools
from tunesmith.data.turns import check_turns

KEYS = "conversations, of from and value; system and tools if wanted"
RANK = 20

ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
    "function_response": "tool",
}


def matches(row: dict) -> bool:
    """Whether there are conversations; those with `role` are of the shape chat, which is first.

    A row with a rejected answer is for a preference method; its turns end with the user's.
    """
    return "conversations" in row and "rejected" not in row


def read(row: dict) -> Conversation:
    """The turns, with the row's system prompt first and its tools beside them."""
    messages = read_messages(row.get("conversations"), "conversations")
    system = text_of(row.get("system") or "", "system")
    if system:
        messages = (Message("system", system), *messages)
    check_turns(messages)
    return Conversation(messages, read_tools(row.get("tools")))


def read_messages(value: Any, what: str) -> tuple[Message, ...]:
    """The turns of a list, in any order; raises RowProblem as `chat.read_messages` does."""
    listed = as_list(value, what)
    return tuple(_message(part, f"{what}, message {n}") for n, part in enumerate(listed, 1))


def _message(value: Any, what: str) -> Message:
    """One turn; raises RowProblem with its name."""
    if not isinstance(value, dict) or "from" not in value or "value" not in value:
        raise RowProblem(f"{what}: {show(value)}", 'an object with "from" and "value"')
    speaker = value["from"]
    role = ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise RowProblem(f"{what}: from {show(speaker)}", f"one of {', '.join(ROLES)}")
    text = text_of(value["value"], what)
    weight = read_weight(value, role, what)
    if speaker == "function_call":
        return Message(role, "", tool_calls=_calls(text, what), weight=weight)
    return Message(role, text, weight=weight)


def _calls(text: str, what: str) -> tuple[dict, ...]:
    """The calls of a `function_call` turn: one, or a list of them."""
    try:
        value = parse(text)
    except RowProblem as error:
        raise RowProblem(
            f"{what}: a function_call that is no JSON, {show(text)}",
            '{"name": ..., "arguments": {...}} as JSON',
        ) from error
    return read_calls(value if isinstance(value, list) else [value], what)
