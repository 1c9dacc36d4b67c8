"""Raw text: `{"text": "..."}`. Every token is trained."""

from tunesmith.data.row import RowProblem, Text
from tunesmith.data.shapes.base import text_of

KEYS = "text"
RANK = 50
"""Last: rows of other shapes often carry their rendered `text` too."""


def matches(row: dict) -> bool:
    """Whether there is a text that is not one message of a conversation (OASST has a role too)."""
    return "text" in row and "role" not in row


def read(row: dict) -> Text:
    """The text as it stands; raises RowProblem when there is none."""
    text = text_of(row.get("text"), "text")
    if not text.strip():
        raise RowProblem("an empty text", "text", "remove the row, or set data.on_bad_row: skip")
    return Text(text)
