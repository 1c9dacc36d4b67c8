"""What the runs of one case say: speeds, ratios with their spread, and whether they agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from benchmarks.cases import WARM_UP_STEPS
from benchmarks.roster import OURS

TOKEN_TOLERANCE = 0.005
"""Largest share by which the real tokens of a step may differ between sides."""
FIRST_LOSS_TOLERANCE = 0.01
"""The first step is taken from the same weights on the same rows: what is left is bf16."""
QUANTISED_LOSS_TOLERANCE = 0.03
"""Two 4-bit or 8-bit copies of one base, made by different programs, are not the same weights."""
CURVE_TOLERANCE = 0.05
"""Later steps start from updates that were drawn with other random numbers."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the repeats: median, smallest, largest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One side of one case, as the table shows it.

    Attributes:
        side: Its name.
        tokens: Real tokens a second.
        trained: Trained tokens a second.
        padding: Share of the computed positions that were padding.
        peak_gib: Largest resident memory over the repeats.
        ratio: How many times faster Tunesmith is, repeat by repeat.
        losses: Loss of each step, the mean over the repeats.
        remark: Why there are no figures, or in what the side disagrees; empty when all is well.
        wrong: Whether the remark is a disagreement or a failure.
    """

    side: str
    tokens: Spread | None = None
    trained: Spread | None = None
    padding: float = 0.0
    peak_gib: float = 0.0
    ratio: Spread | None = None
    losses: tuple[float, ...] = ()
    remark: str = ""
    wrong: bool = False


def spread(values: Sequence[float]) -> Spread:
    """Median, smallest and largest of at least one value."""
    return Spread(median(values), min(values), max(values))


def speed(run: dict[str, Any], key: str = "tokens") -> float:
    """Tokens a second over the timed steps; `key` is `tokens` or `trained`."""
    steps = run["steps"][WARM_UP_STEPS:]
    return sum(step[key] for step in steps) / sum(step["seconds"] for step in steps)


def paired_ratios(ours: dict[int, dict], theirs: dict[int, dict]) -> Spread | None:
    """Speed of ours over theirs in each repeat that both finished; None without one.

    Pairing within a repeat keeps the machine's slow changes out of the ratio.
    """
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        return None
    return spread([speed(ours[number]) / speed(theirs[number]) for number in both])


def compare(runs: Sequence[dict[str, Any]], sides: Sequence[str]) -> list[Row]:
    """The rows of one case.

    Args:
        runs: Its runs: `side`, `repeat`, and what `launch.start` returned.
        sides: Names, in the order of the table; one without a run is left out.
    """
    good = {
        side: {run["repeat"]: run for run in runs if run["side"] == side and "steps" in run}
        for side in sides
    }
    ours = good.get(OURS, {})
    rows = []
    for side in sides:
        if good[side]:
            rows.append(_row(side, good[side], ours))
        else:
            bad = [run for run in runs if run["side"] == side]
            rows += [_without_figures(side, bad[-1])] if bad else []
    return rows


def disagreement(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """In what a run differs from ours that should be equal; empty when nothing does."""
    if len(ours["steps"]) != len(theirs["steps"]):
        return f"{len(theirs['steps'])} steps instead of {len(ours['steps'])}"
    quantised = ours.get("job", {}).get("quantize", "none") != "none"
    first = QUANTISED_LOSS_TOLERANCE if quantised else FIRST_LOSS_TOLERANCE
    for number, (a, b) in enumerate(zip(ours["steps"], theirs["steps"], strict=True), 1):
        if abs(a["tokens"] - b["tokens"]) > TOKEN_TOLERANCE * a["tokens"]:
            return f"step {number}: {b['tokens']} tokens instead of {a['tokens']}"
        limit = first if number == 1 else CURVE_TOLERANCE
        if not abs(a["loss"] - b["loss"]) <= limit * abs(a["loss"]):
            return f"step {number}: loss {b['loss']:.4f} instead of {a['loss']:.4f}"
    return ""


def _row(side: str, runs: dict[int, dict], ours: dict[int, dict]) -> Row:
    differ = [disagreement(ours[n], run) for n, run in sorted(runs.items()) if n in ours]
    remark = next((text for text in differ if text), "")
    steps = [step for run in runs.values() for step in run["steps"]]
    computed = sum(step["computed"] for step in steps)
    by_step = zip(*(run["steps"] for run in runs.values()), strict=False)
    return Row(
        side=side,
        tokens=spread([speed(run) for run in runs.values()]),
        trained=spread([speed(run, "trained") for run in runs.values()]),
        padding=1 - sum(step["tokens"] for step in steps) / computed,
        peak_gib=max(run["peak_gib"] for run in runs.values()),
        ratio=None if side == OURS else paired_ratios(ours, runs),
        losses=tuple(mean(step["loss"] for step in same) for same in by_step),
        remark=remark,
        wrong=bool(remark),
    )


def _without_figures(side: str, run: dict[str, Any]) -> Row:
    if "refused" in run:
        return Row(side, remark=run["refused"])
    return Row(side, remark=f"failed: {run['failed']}", wrong=True)
