"""Row shapes: how the keys of a record say a conversation or a text. One file per shape.

May import `data.row`, `data.strict_json`, `data.turns`, `data.tools` and `shapes.base`. To add a
shape, add a file with `KEYS`, `RANK`, `matches` and `read` (see `base.Shape`); its name is the
`format` of the recipe. `FOR` may say which methods its rows are for, to those who use another.
"""

from collections.abc import Collection
from functools import cache
from typing import cast

from tunesmith.config import folder
from tunesmith.data import shapes as package
from tunesmith.data.row import RowProblem, show
from tunesmith.data.shapes.base import Shape

ANSWERED = frozenset({"alpaca", "chat", "completion", "sharegpt", "text"})
"""Shapes whose rows are what the model is to say: those of tasks and of supervised methods."""


def names() -> list[str]:
    """The shapes, by name."""
    return folder.names(package)


def load(name: str, key: str = "data.train.format") -> Shape:
    """The shape called `name`; `key` is the recipe key for the message.

    Raises:
        RecipeError: There is no such shape.
    """
    return cast(Shape, folder.load(package, name, key))


@cache
def ranked() -> tuple[tuple[str, Shape], ...]:
    """All shapes with their names, the one that is asked first leading."""
    found = [(name, load(name)) for name in names()]
    return tuple(sorted(found, key=lambda pair: pair[1].RANK))


def detect(value: dict, among: Collection[str] = ANSWERED) -> str:
    """Name of the first shape of `among`, by rank, whose keys the record has.

    Raises:
        RowProblem: None matches; the message names the keys found and the shapes with theirs.
    """
    for name, shape in ranked():
        if name in among and shape.matches(value):
            return name
    raise no_shape(value, among)


def no_shape(value: dict, among: Collection[str]) -> RowProblem:
    """The problem of a record that none of these shapes matches."""
    known = "; ".join(f"{name} ({shape.KEYS})" for name, shape in ranked() if name in among)
    others = [pair for pair in ranked() if pair[0] not in among and pair[1].matches(value)]
    hint = "rename the keys to those of the shape that is meant"
    if others:
        name, shape = others[0]
        whose = getattr(shape, "FOR", "another method; see tunesmith methods")
        hint = f"rows of the shape {name} are for {whose}"
    return RowProblem(keys_of(value), f"the keys of a shape: {known}", hint)


def keys_of(value: dict) -> str:
    """`the keys a, b, c` for messages."""
    if not value:
        return "a row without keys"
    listed = ", ".join(show(key) for key in list(value)[:12])
    return f"the keys {listed}" + (" ..." if len(value) > 12 else "")
