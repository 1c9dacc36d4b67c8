"""Rows written otherwise before they are read: other names of keys, and a prompt put in many ways.

Several phrasings of one instruction keep a model from learning the wording: Wei et al. 2022
(FLAN, arXiv:2109.01652, section 2.1).
"""

import re
from collections.abc import Mapping, Sequence

from tunesmith.data.row import RowProblem, show

_PARTS = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
"""A brace written twice, a key in braces, or a brace by itself."""

Value = dict[str, object]


def check_phrasing(phrasing: str) -> None:
    """Raises ValueError for a brace that belongs to no key, or a phrasing without a key."""
    found = list(_PARTS.finditer(phrasing))
    if any(part[0] in "{}" for part in found):
        raise ValueError("keys in braces, such as {text}; a brace itself is written twice")
    if not any(part[1] for part in found):
        raise ValueError("a phrasing with a key of the row in braces, such as {text}")


def phrase(phrasing: str, row: Mapping[str, object]) -> str:
    """The phrasing with the row's texts and numbers in the place of its keys.

    Raises:
        RowProblem: The row has no such key, or neither text nor number there.
    """

    def written(part: re.Match[str]) -> str:
        key = part[1]
        if key is None:
            return part[0][0]
        value = row.get(key)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            got = show(value) if key in row else "nothing"
            raise RowProblem(f"{key}: {got}", f"a text or a number: {show(phrasing)} names it")
        return str(value)

    return _PARTS.sub(written, phrasing)


def rename(row: Value, columns: Mapping[str, str]) -> Value:
    """The row with the keys of its shape in the place of its own.

    Args:
        row: As it stands in the file.
        columns: Key of the shape to key of the file.

    Raises:
        RowProblem: The row lacks a key of the file, or has one that would be overwritten.
    """
    rest = {key: value for key, value in row.items() if key not in columns.values()}
    for key, theirs in columns.items():
        if theirs not in row:
            has = ", ".join(show(name) for name in list(row)[:12])
            raise RowProblem(f"the keys {has}", f"{theirs}, which data.train.columns names")
        if key in rest:
            raise RowProblem(
                f"both {theirs} and {key}",
                f"no {key} beside what data.train.columns calls so",
                f"give the other one another name too, such as {{other: {key}}}",
            )
    return rest | {key: row[theirs] for key, theirs in columns.items()}


def rewritten(row: Value, columns: Mapping[str, str], phrasings: Sequence[str]) -> list[Value]:
    """The row as its shape is to see it: once, or once for each phrasing as its prompt.

    Raises:
        RowProblem: As `rename` and `phrase`; or nothing in `completion` answers the prompt.
    """
    named = rename(row, columns) if columns else row
    if not phrasings:
        return [named]
    if "completion" not in named:
        raise RowProblem(
            "no completion, in a file with phrasings",
            "the answer under completion",
            "name it in data.train.columns, such as {completion: answer}",
        )
    return [named | {"prompt": phrase(each, named)} for each in phrasings]
