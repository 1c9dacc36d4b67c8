"""The run folder: where everything of one run lies."""

import json
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tunesmith.errors import CommandError
from tunesmith.runs import writer
from tunesmith.runs.durable import disk_errors, make_folder, sync_folder, write_durably
from tunesmith.runs.events import finite


@dataclass(frozen=True)
class RunFolder:
    """The layout of one run's folder, and who may write to it.

    Attributes:
        path: The folder itself.
    """

    path: Path

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.resolve().name

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def lock(self) -> Path:
        """Versions and hashes that the run was made with (not the lock of the writer)."""
        return self.path / "lock.json"

    @property
    def events(self) -> Path:
        """What the run told, one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of `step-N` folders."""
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The best adapter, exported."""
        return self.path / "adapter"

    @property
    def model(self) -> Path:
        """The best whole model, exported."""
        return self.path / "model"

    @property
    def report_json(self) -> Path:
        """The report for programs."""
        return self.path / "report.json"

    @property
    def report_md(self) -> Path:
        """The report as Markdown."""
        return self.path / "report.md"

    @property
    def report_html(self) -> Path:
        """The report as one page."""
        return self.path / "report.html"

    @property
    def samples(self) -> Path:
        """Outputs before and after, side by side."""
        return self.path / "samples.json"

    @property
    def probes(self) -> Path:
        """What the probes keep between evaluations."""
        return self.path / "probes"

    @property
    def rollouts(self) -> Path:
        """Answers that the model drew to train on."""
        return self.path / "rollouts"

    @property
    def proof(self) -> Path:
        """What `prove` found; its runs lie here while it is at work."""
        return self.path / "proof"

    @property
    def exists(self) -> bool:
        """Whether a run lies here."""
        return self.events.is_file() or self.recipe.is_file()

    @classmethod
    def create(cls, path: Path) -> tuple["RunFolder", Path | None]:
        """Make an empty run folder at `path`; a run that lies there is moved aside, never deleted.

        Returns:
            The folder, and the new path `<name>.1`, `<name>.2`, ... of the run that lay there, or
            None.

        Raises:
            CommandError: Another process writes to that run, or `path` holds something else.
            MachineError: The disk refused.
        """
        folder = cls(Path(path))
        # A link to a folder on another disk goes on pointing there: what it points to is renamed.
        here = folder.path.resolve()
        aside = None
        with disk_errors(folder.path):
            if _occupied(here):
                _refuse_what_is_no_run(folder)
                aside = _move_aside(here)
            make_folder(here)
        if aside is not None and here.name == folder.path.name:
            aside = folder.path.with_name(aside.name)
        return folder, aside

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """The run folder at `path`.

        Raises:
            CommandError: No run lies there; the hint names runs nearby.
        """
        folder = cls(Path(path))
        if folder.exists:
            return folder
        nearby = ", ".join(str(run) for run in _runs_near(folder.path))
        raise CommandError(
            str(path),
            got="a folder without a run" if folder.path.is_dir() else "no such folder",
            expected="a run folder (one with recipe.yaml or events.jsonl)",
            hint=f"runs nearby: {nearby}" if nearby else "",
        )

    def hold(self) -> AbstractContextManager[None]:
        """Be the one process that writes to this run, for as long as the `with` block lasts.

        Raises:
            CommandError: Another process holds it (named by its id).
            MachineError: The lock file cannot be made.
        """
        return writer.hold(self.path)

    def holder(self) -> int | None:
        """Id of the live process that writes to this run; None when there is none."""
        return writer.holder(self.path)


def write_json(path: Path, data: Any) -> None:
    """Write `data` to `path` as JSON, whole or not at all.

    JSON has no NaN and no infinity: they are written as null.

    Raises:
        MachineError: The disk refused; what was at `path` before is untouched.
    """
    text = json.dumps(finite(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    # A lone surrogate (from a file name that is not UTF-8) becomes its \udcxx escape: valid JSON.
    write_durably(Path(path), text.encode("utf-8", "backslashreplace"))


def _occupied(path: Path) -> bool:
    """Whether anything but an unused lock file is there."""
    if not path.is_dir():
        return os.path.lexists(path)
    return any(entry.name != writer.LOCK_NAME for entry in path.iterdir())


def _refuse_what_is_no_run(folder: RunFolder) -> None:
    """Raise CommandError unless a run lies there that may be moved aside.

    Someone's project folder may hold a recipe.yaml too, and must not be moved from under them:
    until a run has told its first event, it may hold nothing but what a run puts there.
    """
    hint = "set output.dir to a folder that is new or empty"
    if not folder.path.is_dir():
        got = "a file"
    elif Path.cwd().is_relative_to(folder.path.resolve()):
        got = "the folder you are in"
    elif not folder.events.is_file() and (strangers := _strangers(folder)):
        got = f"a folder that is not a run: it holds {', '.join(strangers[:3])}"
    else:
        return
    expected = "nothing there, an empty folder, or a run"
    raise CommandError(str(folder.path), got=got, expected=expected, hint=hint)


def _strangers(folder: RunFolder) -> list[str]:
    """Names in the folder that no run puts there before its first event, sorted."""
    known = {folder.recipe.name, folder.lock.name, folder.checkpoints.name, writer.LOCK_NAME}
    names = {entry.name for entry in folder.path.iterdir()}
    if not folder.recipe.is_file():
        return sorted(names)
    return sorted(n for n in names - known if not (n.startswith(".") and ".tmp-" in n))


def _move_aside(here: Path) -> Path:
    """Rename the run to the first free `<name>.N`, held meanwhile so that nobody writes to it."""
    with writer.hold(here):
        for number in count(1):
            aside = here.with_name(f"{here.name}.{number}")
            if not os.path.lexists(aside):
                break
        os.rename(here, aside)
        sync_folder(here.parent)
    return aside


def _runs_near(path: Path, limit: int = 5) -> list[Path]:
    """Runs below, beside and above a path that is no run, the newest first."""
    base = path
    while not base.is_dir() and base != base.parent:
        base = base.parent
    patterns = ("*", "runs/*", "../*") if base == path else ("*", "runs/*")
    found = {run for pattern in patterns for run in base.glob(pattern) if RunFolder(run).exists}
    return sorted(found, key=lambda run: (-run.stat().st_mtime, run))[:limit]
