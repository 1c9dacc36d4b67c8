"""What happened in a run, without what a resume has overwritten.

A killed run goes on from its last checkpoint and repeats the steps after it. The first telling of
those steps is no part of how the result came about: only the surviving line is kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tunesmith.runs.events import read_events

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The events that count, each list in order; a record is a dict as `read_events` yields it.

    Attributes:
        steps: The last telling of each step, ascending; none that a later resume repeats.
        evaluations: The same for evaluations.
        saved: The same for checkpoints.
        warnings: All warnings of all sessions.
        planned: The plan of each session; the last one holds.
        started: The start of each session.
        finished: The end of the last session; empty while it goes on, or when it was killed.
        seconds: Time from the start to the last event, summed over the sessions.
    """

    steps: list[Record]
    evaluations: list[Record]
    saved: list[Record]
    warnings: list[Record]
    planned: list[Record]
    started: list[Record]
    finished: list[Record]
    seconds: float

    @classmethod
    def read(cls, path: Path) -> "Timeline":
        """The timeline of an `events.jsonl`, or of the run folder it lies in.

        A missing or empty file gives a timeline without events.
        """
        path = Path(path)
        return cls.of(read_events(path / "events.jsonl" if path.is_dir() else path))

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Timeline":
        """The timeline of records in the order in which they were told."""
        by_step: dict[str, dict[int, Record]] = {"step": {}, "evaluated": {}, "saved": {}}
        lists: dict[str, list[Record]] = {
            kind: [] for kind in ("warned", "planned", "started", "finished")
        }
        seconds, session = 0.0, _Session()
        for record in records:
            kind = record["event"]
            if kind == "started":
                for told in by_step.values():
                    _forget_after(record.get("resumed_from"), told)
                lists["finished"].clear()
                seconds, session = seconds + session.seconds, _Session()
            session.see(record.get("time"))
            if kind in by_step:
                by_step[kind][record["step"]] = record
            elif kind in lists:
                lists[kind].append(record)
        steps, evaluations, saved = ([told[k] for k in sorted(told)] for told in by_step.values())
        return cls(
            steps=steps,
            evaluations=evaluations,
            saved=saved,
            warnings=lists["warned"],
            planned=lists["planned"],
            started=lists["started"],
            finished=lists["finished"],
            seconds=seconds + session.seconds,
        )


def _forget_after(step: int | None, told: dict[int, Record]) -> None:
    """Drop what was told of later steps; None (a start from the base) drops everything."""
    for later in [known for known in told if step is None or known > step]:
        del told[later]


@dataclass(slots=True)
class _Session:
    """From one `started` to the last event before the next."""

    first: datetime | None = None
    last: datetime | None = None

    def see(self, time: str | None) -> None:
        if not time:
            return
        self.last = datetime.fromisoformat(time)
        self.first = self.first or self.last

    @property
    def seconds(self) -> float:
        """Never negative, even when the clock was set back."""
        if self.first is None or self.last is None:
            return 0.0
        return max(0.0, (self.last - self.first).total_seconds())
