"""`verify`: is what lies in a run folder what the run left there? Reads all, changes nothing."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.checkpoint import verify as checkpoints
from tunesmith.checkpoint.layout import quarantined, step_folder, steps
from tunesmith.errors import CheckpointError
from tunesmith.export.artefact import describe
from tunesmith.runs.folder import RunFolder


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: Its path below the run folder.
        ok: Whether it is as it was left.
        says: What is wrong, or what was checked.
    """

    what: str
    ok: bool
    says: str


def verify(path: str | Path) -> list[Finding]:
    """Check checkpoints against their manifests, and the artefact against the report.

    Returns:
        A finding for each checkpoint, for each that was set aside, and for the artefact.

    Raises:
        CommandError: No run lies there.
        MachineError: Something could not be read.
    """
    folder = RunFolder.open(Path(path))
    root = folder.checkpoints
    found = [_checkpoint(step_folder(root, step)) for step in steps(root)]
    found += [
        Finding(f"checkpoints/quarantine/{bad.name}", False, "set aside: it failed its check")
        for bad in quarantined(root)
    ]
    return found + _artefact(folder)


def _checkpoint(folder: Path) -> Finding:
    what = f"checkpoints/{folder.name}"
    try:
        manifest = checkpoints.verify(folder)
    except CheckpointError as error:
        return Finding(what, False, error.got)
    return Finding(what, True, f"{len(manifest.files)} files, {manifest.num_bytes:,} bytes")


def _artefact(folder: RunFolder) -> list[Finding]:
    """Nothing where the run has not exported anything."""
    try:
        report = json.loads(folder.report_json.read_text(encoding="utf-8"))
        told: dict[str, Any] | None = report["artefact"]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        return [Finding(folder.report_json.name, False, f"not a report: {error}")]
    return [] if told is None else [_compare(folder.path / told["path"], told)]


def _compare(place: Path, told: dict[str, Any]) -> Finding:
    there = describe(place)
    problems = [] if there.sha256 == told["sha256"] else ["weights are not those of the report"]
    for name, digest in told.get("files", {}).items():
        if name not in there.files:
            problems.append(f"{name}: missing")
        elif there.files[name] != digest:
            problems.append(f"{name}: its bytes are not those that were exported")
    good = f"{len(there.files)} files, {there.bytes:,} bytes of weights"
    return Finding(place.name, not problems, "; ".join(problems) or good)
