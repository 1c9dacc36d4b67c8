"""Whether the output calls the tools that it should, with the right arguments.

Calls are found in JSON, in <tool_call> tags and in Python's form (`evaluate/tool_calls.py`), in the
output as in the reference; their order does not count. Arguments are compared as JSON values. A
reference of `[]` means that nothing is to be called.
"""

from collections.abc import Mapping
from typing import Any, Literal

from tunesmith.config.section import Section
from tunesmith.evaluate.json_values import equal
from tunesmith.evaluate.templates import Template, look_up
from tunesmith.evaluate.tool_calls import Call, calls_of, find_calls


class Config(Section):
    """Calls, and the right ones."""

    type: Literal["tool_call"] = "tool_call"
    name: str = ""
    """What reports call it."""
    input: Template = "{{sample.output_text}}"
    """What the model wrote."""
    reference: Template = "{{item.reference_answer}}"
    """The right calls: a text, or a place in the row that has them as JSON."""
    arguments: bool = False
    """Credit for each right argument of a call with the right name, instead of all or nothing."""


def grade(config: Config, output: str, reference: str, row: Mapping[str, Any]) -> float:
    """Score the calls of an output.

    Returns:
        1.0 when there are the same calls, else 0.0. With `arguments` the sum over the right calls
        of the share of their arguments that the best call of that name has right, over the number
        of calls, in the reference or the output, whichever is larger. The share is of all names of
        arguments that either call has.

    Raises:
        ValueError: The reference calls nothing and is not `[]`.
    """
    expected = _calls(look_up(config.reference, output, reference, row))
    if expected is None:
        raise ValueError("the row has no tool call to compare with")
    got = _calls(look_up(config.input, output, reference, row)) or []
    if not expected:
        return float(not got)
    shares = _matched(expected, got)
    score = sum(shares) / max(len(expected), len(got))
    return score if config.arguments else float(score == 1.0)


def _calls(value: Any) -> list[Call] | None:
    """The calls of a text or a JSON value; None where it calls nothing, and does not say so."""
    if not isinstance(value, str):
        return calls_of(value)
    return find_calls(value) or ([] if value.strip() == "[]" else None)


def _matched(expected: list[Call], got: list[Call]) -> list[float]:
    """For each right call what the best one of the output that is left has of it.

    The best pairs are taken first, so that equal calls find each other.
    """
    pairs = [
        (_share(right, call), i, j)
        for i, right in enumerate(expected)
        for j, call in enumerate(got)
        if right.name == call.name
    ]
    shares, taken = [0.0] * len(expected), set[tuple[str, int]]()
    for share, i, j in sorted(pairs, key=lambda pair: -pair[0]):
        if not taken & {("expected", i), ("got", j)}:
            taken |= {("expected", i), ("got", j)}
            shares[i] = share
    return shares


def _share(right: Call, call: Call) -> float:
    names = right.arguments.keys() | call.arguments.keys()
    both = right.arguments.keys() & call.arguments.keys()
    num_right = sum(equal(right.arguments[name], call.arguments[name]) for name in both)
    return num_right / len(names) if names else 1.0
