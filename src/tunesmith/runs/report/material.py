"""All that a report is made of, read from the run folder once.

A run that was killed left no `report.json`: what its events tell takes the place of it, so that it
can be looked at too. Nothing here measures or decides anything.
"""

from dataclasses import dataclass
from json import JSONDecodeError, loads
from pathlib import Path
from typing import Any

from tunesmith.errors import CommandError
from tunesmith.runs.folder import RunFolder
from tunesmith.runs.report.guard import guard
from tunesmith.runs.timeline import Timeline

Record = dict[str, Any]
"""One JSON object."""


@dataclass(frozen=True, slots=True)
class Material:
    """What the folder of a run holds for its report.

    Attributes:
        path: The run folder, as commands name it.
        report: `report.json`, or what the events tell when there is none.
        timeline: The events that count.
        rows: `samples.json`: some rows of the task, answered before and after.
        lock: `lock.json`: versions and hashes.
    """

    path: Path
    report: Record
    timeline: Timeline
    rows: list[Record]
    lock: Record

    @classmethod
    def read(cls, folder: RunFolder) -> "Material":
        """Reads the folder; a file that is not there counts as empty.

        Raises:
            CommandError: A file of the folder is not the JSON it should be.
        """
        timeline = Timeline.read(folder.events)
        report = read_json(folder.report_json, dict) or unfinished(folder, timeline)
        return cls(
            folder.path,
            report,
            timeline,
            read_json(folder.samples, list),
            read_json(folder.lock, dict),
        )


def read_json(path: Path, kind: type) -> Any:
    """The JSON of a file, an empty `kind` (dict or list) when there is no file.

    Raises:
        CommandError: The file is not JSON, or holds something else than a `kind`.
    """
    if not path.exists():
        return kind()
    hint = "the file was changed or cut; restore it, or run the recipe again"
    try:
        value = loads(path.read_text(encoding="utf-8"))
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise CommandError(str(path), got=str(error), expected="JSON", hint=hint) from error
    if not isinstance(value, kind):
        names = {dict: "a JSON object", list: "a JSON array"}
        got = f"JSON of type {type(value).__name__}"
        raise CommandError(str(path), got=got, expected=names[kind], hint=hint)
    return value


def read_proof(folder: RunFolder) -> Record | None:
    """The certificate that `prove` left; None when there is none that can be read.

    A damaged one must not take the report of a whole run with it.
    """
    try:
        return read_json(folder.proof / "certificate.json", dict) or None
    except CommandError:
        return None


def unfinished(folder: RunFolder, timeline: Timeline) -> Record:
    """What the events alone tell of a run that has no `report.json`.

    Returns:
        A record with the keys of `report.json` that can be known; its status is that of the last
        event `finished`, or else `running` when a live process holds
        the run, or `stopped` (it was killed).
    """
    planned = timeline.planned[-1] if timeline.planned else {}
    finished = timeline.finished[-1] if timeline.finished else {}
    accepted = [step for step in timeline.steps if not step["rejected"]]
    data = {key: planned[key] for key in ("rows_train", "rows_eval", "tokens") if key in planned}
    train: Record = {"steps": timeline.steps[-1]["step"] if timeline.steps else 0}
    train |= {key: planned[key] for key in ("precision", "device") if key in planned}
    train["rejected_steps"] = len(timeline.rejected)
    if accepted:
        train["final_loss"] = accepted[-1]["loss"]
        train["peak_memory_gib"] = max(step["memory_gib"] for step in accepted)
        train["seconds"] = sum(step["seconds"] for step in timeline.steps)
    best = [saved["step"] for saved in timeline.saved if saved["best"]]
    saved = [saved["step"] for saved in timeline.saved]
    status = "stopped" if folder.holder() is None else "running"
    return {
        "status": finished.get("status", status),
        "reason": finished.get("reason", ""),
        "name": folder.name,
        "data": data,
        "train": train,
        "guard": guard(timeline),
        "checkpoint": {"best_step": max(best, default=None), "last_step": max(saved, default=None)},
        "proof": read_proof(folder),
        "warnings": [warning["message"] for warning in timeline.warnings],
    }
