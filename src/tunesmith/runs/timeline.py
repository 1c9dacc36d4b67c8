"""What happened in a run, without what a resume has overwritten.

A killed run goes on from its last checkpoint and repeats the steps after it. The first telling of
those steps is no part of how the result came about: only the surviving line is kept. The same holds
where the guard went back, but for the rejected steps that made it do so: their rows are left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
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
        rejected: Every rejected step, in the order told, those from which the run went back too.
        went_back: Each time that it did.
        warnings: All warnings of all sessions.
        planned: The plan of each session; the last one holds.
        started: The start of each session.
        finished: The end of the last session; empty while it goes on, or when it was killed.
        seconds: Time from the start to the last event, summed over the sessions.
    """

    steps: list[Record]
    evaluations: list[Record]
    saved: list[Record]
    rejected: list[Record]
    went_back: list[Record]
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
        seconds, session, guard = 0.0, _Session(), _Guard()
        for record in records:
            kind = record["event"]
            guard.see(record)
            if kind in ("started", "wentback"):
                for told in by_step.values():
                    _forget_after(record.get("to", record.get("resumed_from")), told)
            if kind == "started":
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
            rejected=guard.rejected,
            went_back=guard.went_back,
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
class _Guard:
    """What the guard did. A checkpoint knows what was told before it: a resume keeps that."""

    rejected: list[Record] = field(default_factory=list)
    went_back: list[Record] = field(default_factory=list)
    _known: dict[int, tuple[int, int]] = field(default_factory=dict)

    def see(self, record: Record) -> None:
        kind = record["event"]
        if kind == "step" and record.get("rejected"):
            self.rejected.append(record)
        elif kind == "wentback":
            self.went_back.append(record)
        elif kind == "saved":
            self._known[record["step"]] = len(self.rejected), len(self.went_back)
        elif kind == "started":
            num_rejected, num_returns = self._known.get(record.get("resumed_from"), (0, 0))
            del self.rejected[num_rejected:], self.went_back[num_returns:]


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
