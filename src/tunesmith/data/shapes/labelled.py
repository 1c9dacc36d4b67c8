"""Something to be classified: a text, a prompt or messages, and its `label`.

The label is a text or a number; `labels` is a list of several. A `text_pair`, where there is one,
stands on a new line behind the text.
"""

from typing import Any

from tunesmith.data.row import Conversation, Labelled, RowProblem, Text, show
from tunesmith.data.shapes.base import answer_of
from tunesmith.data.shapes.chat import read_messages

KEYS = "text (or prompt, or messages), label (or labels); text_pair if wanted"
RANK = 5
"""Before the shapes of answers: their rows have no label."""

FOR = "the method classify"

TEXTS = ("text", "prompt", "messages")
LABELS = ("label", "labels", "intent")
"""`intent` is what CLINC150 calls it."""
LARGEST = 1e9
"""Of a number."""


def matches(row: dict) -> bool:
    """Whether there is a label, and something that it belongs to."""
    return any(key in row for key in LABELS) and any(key in row for key in TEXTS)


def read(row: dict) -> Labelled:
    """The content with its labels; raises RowProblem where one is missing or empty."""
    key = next((key for key in LABELS if key in row), LABELS[0])
    value = row.get(key)
    several = value if isinstance(value, list) and key == "labels" else [value]
    labels = tuple(_label(each, key) for each in several)
    number = float(value) if isinstance(value, int | float) else None
    return Labelled(_content(row), labels, number)


def _label(value: Any, key: str) -> str:
    """A label as a text: 3 and 3.0 are the same class."""
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, bool):
        return str(value).lower()
    # A whole number of JSON can be larger than any float.
    if isinstance(value, int | float) and abs(value) <= LARGEST:
        return str(int(value)) if value == int(value) else str(value)
    raise RowProblem(f"{key}: {show(value)}", "a text or a number")


def _content(row: dict) -> Conversation | Text:
    if "messages" in row:
        messages = read_messages(row["messages"], "messages")
        if not messages:
            raise RowProblem("messages: an empty list", "at least one message")
        return Conversation(messages)
    key = "prompt" if "prompt" in row and "text" not in row else "text"
    text = answer_of(row.get(key), key)
    if row.get("text_pair") is not None:
        text += "\n" + answer_of(row["text_pair"], "text_pair")
    return Text(text)
