"""What the guard did in a run, from its events: the `guard` key of the report."""

from math import isfinite
from typing import Any

from tunesmith.runs.timeline import Timeline

Record = dict[str, Any]


def guard(timeline: Timeline) -> Record:
    """Rejected steps, turns, and how far the parameters moved.

    Returns:
        `rejected`: step, reason and rows (file, number) of each; `went_back`: step, to, reason and
        rows left out of each turn; `returns`: how many; `rows_left_out`; `largest_update_norm` and
        `grown_norm` (the last), None where no step was looked at.
    """
    updates = [s["update_norm"] for s in timeline.steps if s.get("update_norm") is not None]
    grown = grown_norms(timeline)
    return {
        "rejected": [_only(step, "step", "reason", "rows") for step in timeline.rejected],
        "went_back": [_only(turn, "step", "to", "reason", "rows") for turn in timeline.went_back],
        "returns": len(timeline.went_back),
        "rows_left_out": len({tuple(row) for turn in timeline.went_back for row in turn["rows"]}),
        "largest_update_norm": max(filter(isfinite, updates), default=None),
        "grown_norm": grown[-1] if grown else None,
    }


def stunted(timeline: Timeline) -> str:
    """A warning where what was zero at the start has not grown; empty when it has."""
    grown = grown_norms(timeline)
    if len(grown) < 2 or grown[-1] > grown[0]:
        return ""
    return (
        f"what began at zero (LoRA's B) has not grown since step 1: its norm was {grown[0]:.3g}, "
        f"and is {grown[-1]:.3g}; train.learning_rate may be too low"
    )


def grown_norms(timeline: Timeline) -> list[float]:
    """Norms of the parameters that were zero at the start, in the order of the steps."""
    return [s["grown_norm"] for s in timeline.steps if s.get("grown_norm") is not None]


def _only(record: Record, *names: str) -> Record:
    return {name: record.get(name) for name in names}
