"""A text and one that belongs to it: `anchor` and `positive`, with `negatives` that do not.

`query`, `pos` and `neg` are what FlagEmbedding calls them.
"""

from typing import Any

from tunesmith.data.row import Related, RowProblem, show
from tunesmith.data.shapes.base import answer_of

KEYS = "anchor (or query), positive; negatives if wanted"
RANK = 5
FOR = "the method embed"

ANCHORS = ("anchor", "query")
POSITIVES = ("positive", "pos")
NEGATIVES = ("negatives", "negative", "neg")


def matches(row: dict) -> bool:
    """Whether there is a text, and one that belongs to it."""
    return _key(row, ANCHORS) is not None and _key(row, POSITIVES) is not None


def read(row: dict) -> Related:
    """The texts; raises RowProblem where one says nothing, or the positive is a negative too."""
    anchor, positive = (_key(row, names) or names[0] for names in (ANCHORS, POSITIVES))
    found = _texts(row.get(positive), positive)
    if len(found) != 1:
        hint = "write one row for each of them"
        raise RowProblem(f"{positive}: {len(found)} texts", "one text", hint)
    key = _key(row, NEGATIVES)
    negatives = _texts(row[key], key) if key else ()
    if found[0] in negatives:
        raise RowProblem(f"{key} with the positive: {show(found[0])}", "texts that do not belong")
    return Related(answer_of(row.get(anchor), anchor), found[0], negatives)


def _key(row: dict, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if row.get(name) is not None), None)


def _texts(value: Any, key: str) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    return tuple(answer_of(each, f"{key}, text {n}") for n, each in enumerate(listed, 1))
