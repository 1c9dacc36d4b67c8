"""What a run tells while it goes on: the vocabulary of `events.jsonl`.

Every event is an immutable record; the run folder, the live line, the report and the dashboard are
all fed by these and nothing else. A resumed run repeats the steps after its checkpoint: readers
keep the last event of each step.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from io import FileIO
from json import dumps, loads
from math import isfinite, nan
from os import SEEK_END
from pathlib import Path
from typing import Any, Protocol

from tunesmith.runs.durable import disk_errors
from tunesmith.runs.patience import patiently


@dataclass(frozen=True, slots=True)
class Started:
    """A process began, or went on with, the run."""

    pid: int
    version: str
    resumed_from: int | None = None
    """Step of the checkpoint it went on from; None for a fresh start."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What the run is going to do, known before step 1."""

    num_steps: int
    num_epochs: float
    rows_train: int
    rows_eval: int
    tokens: int
    """Tokens of one epoch, padding not counted."""
    tokens_trained: int
    trainable_parameters: int
    precision: str
    device: str


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the run that takes a while began; `name` is a sentence part for people."""

    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step."""

    step: int
    """Counted from 1."""
    epoch: float
    """Epochs completed after this step, with fraction."""
    loss: float
    """Mean over the trained tokens of the step, in nats."""
    learning_rate: float
    grad_norm: float
    """Before clipping."""
    tokens: int
    tokens_trained: int
    seconds: float
    memory_gib: float
    """Peak so far: resident memory on a CPU, allocated memory on a GPU."""
    rejected: bool = False
    """True when the guard refused the step, which then changed nothing."""
    rows: tuple[tuple[str, int], ...] = ()
    """The rows of a rejected step; empty otherwise."""
    reason: str = ""
    """Why it was rejected."""
    update_norm: float | None = None
    """Norm of the change of the trained parameters; None where it was not looked at."""
    grown_norm: float | None = None
    """Norm of the parameters that were zero at the start (LoRA's B); None likewise."""
    digest: str = ""
    """Hash of the rows, tokens and targets that it was trained on, in order."""
    seed: int | None = None
    """What the random numbers of the step (dropout) came from."""
    figures: dict[str, float] = field(default_factory=dict)
    """What the method tells of the step besides the loss, such as the margin between answers."""


@dataclass(frozen=True, slots=True)
class WentBack:
    """The run is at a checkpoint again; what was told of later steps is void."""

    step: int
    """Steps done when it turned."""
    to: int
    """Step of the checkpoint, the last that later steps had proved healthy; 0 is the start."""
    reason: str
    rows: tuple[tuple[str, int], ...]
    """Rows of rejected steps, left out from now on."""


@dataclass(frozen=True, slots=True)
class TaskScore:
    """Score of one task at one moment."""

    name: str
    n: int
    score: float
    ungraded: int = 0
    """Rows whose output the grader failed on, scored 0."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """How far the model has moved from the base on what the base could already do."""

    kl: float
    """Mean KL(base || now) in nats per token, over the base's own answers to general prompts."""
    loss: float
    """Mean loss on these answers, in nats per token."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """All measures at one step; step 0 is the base before training."""

    step: int
    loss: float | None
    """Held-out loss in nats per trained token; None without `data.eval`."""
    tasks: tuple[TaskScore, ...]
    forgetting: Forgetting | None
    seconds: float
    skipped: tuple[str, ...] = ()
    """Measures that failed and so are missing; warnings say why."""
    figures: dict[str, float] = field(default_factory=dict)
    """What is told of the held-out rows besides the loss: means over them, or of all together."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint exists (its manifest verified)."""

    step: int
    path: str
    best: bool
    """Whether it is the best so far, by task score within the forgetting budget."""


@dataclass(frozen=True, slots=True)
class Warned:
    """Something a person should know that does not stop the run."""

    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The run ended. `status` is succeeded, failed or interrupted."""

    status: str
    reason: str = ""
    exit_code: int = 0


Event = Started | Planned | Phase | Step | WentBack | Evaluated | Saved | Warned | Finished

KINDS: dict[str, type[Event]] = {
    kind.__name__.lower(): kind
    for kind in (Started, Planned, Phase, Step, WentBack, Evaluated, Saved, Warned, Finished)
}


class Observer(Protocol):
    """Watches a run. It gets immutable events and cannot change or break the run."""

    def notice(self, event: Event) -> None:
        """Take note of one event; an exception here drops the observer, not the run."""


@dataclass(slots=True)
class EventWriter:
    """The observer that appends each event to `events.jsonl`, one JSON object a line."""

    path: Path
    _kinds: dict[type, str] = field(default_factory=lambda: {k: n for n, k in KINDS.items()})

    def notice(self, event: Event) -> None:
        """Append `event` with its kind and the time in UTC.

        A number that is not finite is written as null, since JSON has no other way to say it. A
        line that a killed writer left half written is closed first, so that it spoils no other.

        Raises:
            MachineError: The disk refused; the line is not there, nor a part of it.
        """
        record = {"time": now(), "event": self._kinds[type(event)], **asdict(event)}
        text = dumps(finite(record), ensure_ascii=False, allow_nan=False) + "\n"
        patiently(lambda: self._append(text.encode("utf-8", "backslashreplace")))

    def _append(self, line: bytes) -> None:
        with disk_errors(self.path, len(line)), self.path.open("a+b", buffering=0) as file:
            size = file.tell()
            if size and not _ends_with_newline(file):
                line = b"\n" + line
            # A disk that is almost full takes a part, and refuses the rest.
            written = file.write(line)
            try:
                while written < len(line):
                    written += file.write(line[written:])
            except OSError:
                file.truncate(size)
                raise


def _ends_with_newline(file: FileIO) -> bool:
    file.seek(-1, SEEK_END)
    return file.read(1) == b"\n"


def finite(value: Any) -> Any:
    """The same JSON value, with None for each number that is not finite."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def now() -> str:
    """The time in UTC, to the millisecond, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of `events.jsonl` in order.

    A line that is no record is left out: the torn end that a killed writer leaves may stop inside a
    character, and after a power cut it may be zeros.

    Yields:
        Dicts with `time`, `event` (a key of KINDS) and the fields of that event. A number that was
        not finite comes back as NaN where the field is always a number.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                record = loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and record.get("event") in KINDS:
                yield _with_nan(record, KINDS[record["event"]])


def _with_nan(record: dict[str, Any], kind: type) -> dict[str, Any]:
    """Put NaN where null stands in a field of `kind` that is declared a float."""
    for part in fields(kind):
        if part.type is float and record.get(part.name, 0) is None:
            record[part.name] = nan
    if record.get("forgetting"):
        record["forgetting"] = _with_nan(record["forgetting"], Forgetting)
    return record
