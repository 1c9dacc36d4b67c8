"""All runs below a folder, one line each: what `tunesmith runs` and the dashboard show first."""

from dataclasses import dataclass
from pathlib import Path

from tunesmith.runs.folder import RunFolder
from tunesmith.runs.timeline import Record, Timeline


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run at a glance.

    Attributes:
        name: Name of the folder.
        path: The folder.
        status: succeeded, failed or interrupted, as the run itself said at its end; `running` while
            a process holds the folder; else `stopped`: killed, and can be resumed.
        step: Optimizer steps done; 0 before the first.
        num_steps: Steps planned; None before the plan is made.
        score_name: The first task; None without one.
        score_before: Its score for the base; None before it is known.
        score_after: Its score at the best checkpoint, or at the last evaluation where none is
            marked best; None before it is known.
        started: When the first session began, ISO 8601 in UTC; None before it is known.
        seconds: Time spent on it in all sessions.
    """

    name: str
    path: Path
    status: str
    step: int
    num_steps: int | None
    score_name: str | None
    score_before: float | None
    score_after: float | None
    started: str | None
    seconds: float


def list_runs(root: Path) -> list[RunSummary]:
    """Every run at `root`, in it, or in a folder of it; the latest start first.

    A missing folder holds no runs.
    """
    root = Path(root)
    patterns = ("events.jsonl", "*/events.jsonl", "*/*/events.jsonl")
    folders = {found.parent for pattern in patterns for found in root.glob(pattern)}
    runs = [summarise(RunFolder(folder)) for folder in sorted(folders)]
    return sorted(runs, key=lambda run: run.started or "", reverse=True)


def summarise(folder: RunFolder) -> RunSummary:
    """One run at a glance, from its events and its lock."""
    timeline = Timeline.read(folder.events)
    before, after = _before_and_after(timeline)
    first = before or after
    name = first["tasks"][0]["name"] if first else None
    return RunSummary(
        name=folder.name,
        path=folder.path,
        status=_status(folder, timeline),
        step=timeline.steps[-1]["step"] if timeline.steps else 0,
        num_steps=timeline.planned[-1]["num_steps"] if timeline.planned else None,
        score_name=name,
        score_before=_score(before, name),
        score_after=_score(after, name),
        started=timeline.started[0]["time"] if timeline.started else None,
        seconds=timeline.seconds,
    )


def _status(folder: RunFolder, timeline: Timeline) -> str:
    if timeline.finished:
        return str(timeline.finished[-1]["status"])
    return "stopped" if folder.holder() is None else "running"


def _before_and_after(timeline: Timeline) -> tuple[Record | None, Record | None]:
    """The evaluation of the base, and that of the best checkpoint (else the last)."""
    scored = {record["step"]: record for record in timeline.evaluations if record["tasks"]}
    later = [record for step, record in scored.items() if step > 0]
    best = [record["step"] for record in timeline.saved if record["best"]]
    last = later[-1] if later else None
    return scored.get(0), scored.get(best[-1], last) if best else last


def _score(evaluation: Record | None, name: str | None) -> float | None:
    """The score of the task `name` in an evaluation; None where it was not measured."""
    tasks = evaluation["tasks"] if evaluation else []
    return next((task["score"] for task in tasks if task["name"] == name), None)
