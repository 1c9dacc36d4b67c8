"""The system message that a data set was written with, so that a chat can begin with it too."""

from collections.abc import Sequence
from itertools import islice

from tunesmith.data import shapes
from tunesmith.data.reading import read_source
from tunesmith.data.row import Content, Conversation, answered, ignore
from tunesmith.data.section import Source

LOOKED_AT = 200
"""Rows of each file that are looked at: enough to tell a fixed message from varied ones."""


def common_system(files: Sequence[Source]) -> str | None:
    """The one system message that the first rows of all files share; None when they differ."""
    found = set()
    for file in files:
        rows = read_source(file, ignore, shapes.names())
        for row in islice(rows, LOOKED_AT):
            found.add(_system(row.content))
            if len(found) > 1:
                return None
    return found.pop() if found else None


def _system(content: Content) -> str | None:
    said = answered(content)
    if not isinstance(said, Conversation) or said.messages[0].role != "system":
        return None
    return said.messages[0].content
