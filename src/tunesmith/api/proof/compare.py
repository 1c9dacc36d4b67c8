"""How two runs of a proof differ: the first difference of each kind, in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunesmith.api.lock import differences
from tunesmith.api.proof.planned import Planned
from tunesmith.api.proof.trace import NUMBERS, Trace
from tunesmith.runs.timeline import Record

ORDER, RATES, SEEDS, LOSSES = "order of rows", "learning rates", "seeds of steps", "losses"
WEIGHTS, OPTIMIZER, COUNTERS, EVALUATIONS = "weights", "optimizer", "counters", "evaluations"

KINDS = (ORDER, RATES, SEEDS, LOSSES, WEIGHTS, OPTIMIZER, COUNTERS, EVALUATIONS)
"""In the order in which a person should look at them: the first is most likely the cause."""

KIND_OF = {"learning_rate": RATES, "seed": SEEDS}
"""Of the numbers of a step; the others belong to its loss."""

Found = dict[str, str]
"""The first difference of a kind, by kind."""


def compare(first: Trace, other: Trace, planned: Planned) -> Found:
    """What `other` has otherwise than `first`; empty when every bit is equal.

    Numbers are equal when their shortest digits are, so that NaN equals NaN and -0.0 is not 0.0.
    """
    found: Found = {}
    for kind, text in _all(first, other, planned):
        found.setdefault(kind, text)
    return found


def _all(first: Trace, other: Trace, planned: Planned) -> Iterator[tuple[str, str]]:
    yield from _steps(first.steps, other.steps, planned)
    yield from ((WEIGHTS, text) for text in _tensors(first.weights, other.weights))
    yield from ((OPTIMIZER, text) for text in _tensors(first.optimizer, other.optimizer))
    for kind, before, after in (
        (OPTIMIZER, first.options, other.options),
        (COUNTERS, first.counters, other.counters),
    ):
        yield from ((kind, text) for text in differences(_texts(before), _texts(after), kind))
    yield from ((EVALUATIONS, text) for text in _measures(first.evaluations, other.evaluations))


def _steps(
    first: Sequence[Record], other: Sequence[Record], planned: Planned
) -> Iterator[tuple[str, str]]:
    numbers = [[step["step"] for step in steps] for steps in (first, other)]
    if numbers[0] != numbers[1]:
        yield ORDER, f"steps {numbers[1]} where the first run had {numbers[0]}"
    there = {step["step"]: step for step in other}
    for was in first:
        number = was["step"]
        now = there.get(number)
        if now is None:
            continue
        if now["digest"] != was["digest"]:
            rows = [planned.told(step["digest"], number) for step in (now, was)]
            yield ORDER, f"step {number}: {rows[0]}, where the first run had {rows[1]}"
        for name in NUMBERS:
            if repr(now[name]) != repr(was[name]):
                kind, text = KIND_OF.get(name, LOSSES), f"{name.replace('_', ' ')} {now[name]!r}"
                yield kind, f"step {number}: {text} where the first run had {was[name]!r}"


def _tensors(first: Mapping[str, str], other: Mapping[str, str]) -> Iterator[str]:
    changed = [name for name in first if name in other and first[name] != other[name]]
    missing = [name for name in first if name not in other]
    added = [name for name in other if name not in first]
    for names, how in ((missing, "is missing"), (added, "is new"), (changed, "has other bits")):
        if names:
            more = f" (and {len(names) - 1} more of {len(first)})" if len(names) > 1 else ""
            yield f"{names[0]} {how}{more}"


def _measures(first: list[Record], other: list[Record]) -> Iterator[str]:
    steps = [[each["step"] for each in history] for history in (first, other)]
    if steps[0] != steps[1]:
        yield f"evaluations of steps {steps[1]} where the first run had those of {steps[0]}"
    for was, now in zip(first, other, strict=False):
        if repr(was) != repr(now):
            yield f"evaluation of step {was['step']}: {now} where the first run had {was}"


def _texts(value: Any) -> Any:
    """The same tree with each leaf as its exact text, in dicts alone: keys of lists are numbers."""
    if isinstance(value, dict):
        return {str(key): _texts(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return {str(number): _texts(inner) for number, inner in enumerate(value)}
    return repr(value)
