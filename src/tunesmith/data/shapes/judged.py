"""An answer with a verdict: good or bad, as thumbs up and down are collected.

The row is one of the shapes with an answer, with a `label`, `kto_tag` or `thumbs` beside it.
"""

from dataclasses import replace
from typing import Any

from tunesmith.data.row import Judged, RowProblem, show
from tunesmith.data.shapes import alpaca, chat, completion, sharegpt
from tunesmith.data.shapes.preference import only_last

KEYS = "label, of true or false; prompt and completion, messages, conversations or instruction"
RANK = 6
FOR = "kto, the method of answers found good or bad"

VERDICTS = ("label", "kto_tag", "thumbs")
"""TRL's, LLaMA-Factory's, and what an application logs."""

GOOD = (True, "true", "good", "up", "thumbs_up", "1")
BAD = (False, -1, "false", "bad", "down", "thumbs_down", "0", "-1")
ANSWERED_BY = (chat, sharegpt, alpaca, completion)


def matches(row: dict) -> bool:
    """Whether there is a verdict and an answer."""
    has_verdict = any(key in row for key in VERDICTS)
    return has_verdict and any(shape.matches(row) for shape in ANSWERED_BY)


def read(row: dict) -> Judged:
    """The answer and what was found of it; raises RowProblem where either cannot be read."""
    key = next((key for key in VERDICTS if key in row), VERDICTS[0])
    good = _verdict(row.get(key), key)
    shape = next((shape for shape in ANSWERED_BY if shape.matches(row)), chat)
    conversation = shape.read(row)
    messages = only_last(conversation.messages, len(conversation.messages) - 1)
    return Judged(replace(conversation, messages=messages), good)


def _verdict(value: Any, what: str) -> bool:
    """Good or bad. A 1 equals True, and a 0 False."""
    said = value.strip().lower() if isinstance(value, str) else value
    if isinstance(said, str | int | float) and said in (*GOOD, *BAD):
        return said in GOOD
    raise RowProblem(f"{what}: {show(value)}", "true or false, 1 or 0, up or down")
