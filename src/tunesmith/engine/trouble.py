"""What makes a run go back, or end: asked after every step."""

import torch

from tunesmith.engine.parts import Parts
from tunesmith.engine.rewind import diverged
from tunesmith.engine.sound import unsound
from tunesmith.models.resting import resting
from tunesmith.runs.events import Step


def broken(parts: Parts, done: int, report: Step | None) -> str:
    """Why the run cannot go on after so many steps; empty when it can.

    Args:
        parts: Of the run.
        done: Steps done.
        report: Of the last of them, if it had rows.

    Raises:
        RunError: The model is worse than at the start, and leaving out rows would not help.
    """
    guard = parts.guard
    if report is not None and report.rejected:
        if bad := unsound({str(number): p for number, p in enumerate(parts.parameters)}):
            guard.excuse(parts.loader.examples(done - 1))
            return f"NaN or infinity in {len(bad)} of {len(parts.parameters)} trained tensors"
        if guard.exhausted:
            rows = ", ".join(f"{source}:{row}" for source, row in report.rows[:8])
            return f"{report.reason}; {guard.exhausted}; rows of the last: {rows}"
    if guard.suspects(done) and guard.ruined(now := first_loss(parts)):
        before = f"{guard.first[1]:.4g}" if guard.first else "unknown"
        why = f"loss {now:.4g} on the rows of the first accepted step; it was {before} before it"
        if guard.first is None and not guard.rejected:
            why = "no step with anything to train on"  # No answer passed the grader, say.
        go_back(parts, done, why, again=False)
    return ""


def go_back(parts: Parts, done: int, why: str, again: bool = True) -> int:
    """Go back to the last healthy checkpoint; returns the steps done there.

    Raises:
        RunError: It must not be tried `again`, was tried too often, or there is no checkpoint.
    """
    if parts.rewind is None:
        raise diverged(done, why)
    return parts.rewind(done, why, again)


@torch.no_grad()
def first_loss(parts: Parts) -> float:
    """The loss now, in nats per trained token, on the rows of the first accepted step.

    NaN where no step was ever accepted.
    """
    if parts.guard.first is None:
        return float("nan")
    with resting(parts.model):
        loaded = parts.loader.again(parts.guard.first[0])
        batches = parts.ahead([batch.to(parts.device) for batch in loaded])
        sums = [parts.loss(batch) for batch in batches]
    return float(sum(part.total for part in sums)) / max(sum(part.count for part in sums), 1)
