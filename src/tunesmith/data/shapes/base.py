"""What a row shape is, and how each reads a text from a key."""

from typing import Any, Protocol

from tunesmith.data.row import Content, RowProblem, show


class Shape(Protocol):
    """A module of this folder.

    Attributes:
        KEYS: The keys it needs, for messages.
        RANK: Shapes are asked in this order, lowest first.
    """

    KEYS: str
    RANK: int

    def matches(self, row: dict) -> bool:
        """Whether the keys are there; says nothing about their values."""

    def read(self, row: dict) -> Content:
        """What the row says; raises RowProblem where it cannot be trained on."""


def text_of(value: Any, what: str) -> str:
    """The value, when it is a text; `what` names it for the message.

    Raises:
        RowProblem: It is not.
    """
    if isinstance(value, str):
        return value
    got = "null" if value is None else f"{show(value)} ({type(value).__name__})"
    raise RowProblem(f"{what}: {got}", "a text")


def answer_of(value: Any, what: str) -> str:
    """The value, when it is a text that says something.

    Raises:
        RowProblem: It is no text, or is empty or white space.
    """
    text = text_of(value, what)
    if not text.strip():
        raise RowProblem(
            f"an empty answer ({what})", "text", "remove the row, or set data.on_bad_row: skip"
        )
    return text
