"""What a judge said, read: a number or a label, in the JSON it was asked for or bare."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?![\w])")
_DECODER = json.JSONDecoder()
MAX_SHOWN = 60

FORM = (
    "Answer with one JSON object and nothing else: "
    '{{"steps": [{{"description": "...", "conclusion": "..."}}], "result": {result}}}'
)
"""Said at the end of each question: the form that OpenAI's graders ask of a judge."""


def number_in(text: str) -> float:
    """The number that an answer gives: its `result`, or the only number there is.

    Raises:
        ValueError: It gives none, or several.
    """
    result = _result(text)
    if isinstance(result, int | float) and not isinstance(result, bool) and math.isfinite(result):
        return float(result)
    found = _NUMBER.findall(result if isinstance(result, str) else text)
    if len(found) == 1:
        return float(found[0])
    raise ValueError(f"the judge gave no number: {_shown(text)}")


def label_in(text: str, labels: Sequence[str]) -> str:
    """The label that an answer gives: its `result`, the whole answer, or the only one in it.

    Raises:
        ValueError: It gives none, or several.
    """
    result = _result(text)
    said = result if isinstance(result, str) else text
    equal = [label for label in labels if label.casefold() == said.strip(" \n.\"'`*").casefold()]
    if equal:
        return next((label for label in equal if label == said.strip()), equal[0])
    found = [label for label in labels if _stands(label, said)]
    if len(found) == 1:
        return found[0]
    raise ValueError(f"the judge gave none of the labels: {_shown(text)}")


def _stands(label: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text, re.IGNORECASE) is not None


def _result(text: str) -> Any:
    """`result` of the last JSON object in a text that has one; None where there is none."""
    found, at = None, text.find("{")
    while at >= 0:
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            found = value.get("result", found) if isinstance(value, dict) else found
        at = text.find("{", end)
    return found


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= MAX_SHOWN else f"{line[: MAX_SHOWN - 3]}...")
