"""Prompt and completion: two texts, or lists of messages.

On a base with a chat template the texts become a user and an assistant turn; without one the row is
the two texts end to end.
"""

from tunesmith.data.row import Conversation, Message
from tunesmith.data.shapes.base import answer_of, text_of
from tunesmith.data.shapes.chat import read_messages
from tunesmith.data.tools import read_tools
from tunesmith.data.turns import check_turns

KEYS = "prompt, completion"
RANK = 40


def matches(row: dict) -> bool:
    """Whether both keys are there."""
    return "prompt" in row and "completion" in row


def read(row: dict) -> Conversation:
    """The prompt with its completion; raises RowProblem where one is missing."""
    prompt, completion = row.get("prompt"), row.get("completion")
    tools = read_tools(row.get("tools"))
    if isinstance(prompt, str) and isinstance(completion, str):
        answer = answer_of(completion, "completion")
        turns = (Message("user", prompt), Message("assistant", answer))
        return Conversation(turns, tools, kind="completion")
    before = _turns(prompt, "prompt", "user")
    messages = (*before, *_turns(completion, "completion", "assistant"))
    check_turns(messages)
    return Conversation(messages, tools)


def _turns(value: object, what: str, role: str) -> tuple[Message, ...]:
    """The messages of a list, or one message of `role` for a text."""
    if isinstance(value, list | dict):
        return read_messages([value] if isinstance(value, dict) else value, what)
    return (Message(role, text_of(value, what)),)
