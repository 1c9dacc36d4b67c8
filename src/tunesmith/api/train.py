"""`train` and `resume`: build the parts, run the loop, prove the result."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from tunesmith import __version__
from tunesmith.api import lock
from tunesmith.api.build import seed_everything
from tunesmith.api.finish import finish
from tunesmith.api.resolve import require_paths, resolve
from tunesmith.api.run import Run
from tunesmith.api.session import Session, open_session
from tunesmith.checkpoint.layout import QUARANTINE, quarantined
from tunesmith.checkpoint.verify import Latest, latest
from tunesmith.config.overrides import apply_overrides
from tunesmith.config.yaml_file import read_yaml
from tunesmith.engine import loop
from tunesmith.engine.observers import Observers
from tunesmith.engine.saving import read_history, restore
from tunesmith.errors import (
    CheckpointError,
    CommandError,
    Interrupted,
    MachineError,
    TunesmithError,
)
from tunesmith.recipe import Recipe, from_dict, read, to_yaml
from tunesmith.runs.durable import write_durably
from tunesmith.runs.events import EventWriter, Finished, Observer, Started, Warned
from tunesmith.runs.folder import RunFolder, write_json
from tunesmith.runs.patience import Patience, waiting
from tunesmith.runs.report.guard import stunted
from tunesmith.runs.report.material import unfinished
from tunesmith.runs.report.write import write as write_pages
from tunesmith.runs.timeline import Timeline


def train(
    recipe: Recipe | str | Path,
    overrides: Sequence[str] = (),
    observers: Iterable[Observer] = (),
    until: int | None = None,
) -> Run:
    """Run a recipe from the beginning to a proven artefact.

    Args:
        recipe: A recipe, or the path of one.
        overrides: Texts `section.key=value`; only with a path.
        observers: Whoever wants to watch.
        until: Stop after so many steps, a checkpoint left, as if the user had asked for it then:
            the schedule stays that of the whole run.

    Returns:
        The run; `Run.report` says what came out.

    Raises:
        TunesmithError: The recipe, the data, the machine or the training failed it.
        Interrupted: The user stopped it, or `until` did; `resume` goes on from there.
    """
    _require_step(until)
    if not isinstance(recipe, Recipe):
        recipe = read(recipe, overrides)
    recipe = resolve(recipe)
    require_paths(recipe)
    folder, aside = RunFolder.create(Path(recipe.output.dir))
    with folder.hold(), _observed(folder, observers) as watch:
        watch.notice(Started(os.getpid(), __version__))
        if aside is not None:
            watch.notice(Warned(f"the run that was in {folder.path} is now in {aside}"))
        write_durably(folder.recipe, to_yaml(recipe).encode())
        return _run(recipe, folder, watch, Latest(None, ()), until)


def resume(
    path: str | Path,
    overrides: Sequence[str] = (),
    observers: Iterable[Observer] = (),
    until: int | None = None,
) -> Run:
    """Go on with a run from its newest sound checkpoint, to the same bits as without the stop.

    Args:
        path: The run folder.
        overrides: Must change nothing; a difference is refused and shown.
        observers: Whoever wants to watch.
        until: As for `train`; counted from the beginning of the run.

    Raises:
        CommandError: No such run, a changed recipe, base or data, or a run that has succeeded.
        CheckpointError: It has checkpoints, and each of them is damaged.
    """
    _require_step(until)
    folder = RunFolder.open(Path(path))
    data = apply_overrides(read_yaml(folder.recipe), overrides)
    data["output"] = {"dir": str(folder.path.absolute())}
    recipe = resolve(from_dict(data, str(folder.recipe)))
    require_paths(recipe)
    if folder.report_json.is_file() and Run(folder).status == "succeeded":
        _require_unchanged(folder, recipe, latest(folder.checkpoints))
        raise CommandError(
            str(folder.path),
            got="a run that has succeeded",
            expected="one that was stopped",
            hint=f"see it with: tunesmith report {path}",
        )
    with folder.hold():
        found = latest(folder.checkpoints)
        _require_some(folder, found)
        _require_unchanged(folder, recipe, found)
        folder.report_json.unlink(missing_ok=True)
        step = None if found.manifest is None else found.manifest.step
        with _observed(folder, observers) as watch:
            watch.notice(Started(os.getpid(), __version__, step))
            for bad, why in found.quarantined:
                watch.notice(Warned(f"checkpoint {bad} was set aside: {why}"))
            return _run(recipe, folder, watch, found, until)


def _run(
    recipe: Recipe, folder: RunFolder, watch: Observers, found: Latest, until: int | None
) -> Run:
    """Everything between the first and the last event of a session."""
    patience = _patience(recipe, watch)
    with waiting(patience):
        return _sitting(recipe, folder, watch, found, patience, until)


def _patience(recipe: Recipe, watch: Observers) -> Patience | None:
    """How the run waits on a full disk; None when it is to fail."""
    if recipe.checkpoint.on_full_disk == "fail":
        return None
    return Patience(tell=lambda text: watch.mention(Warned(text)))


def _sitting(
    recipe: Recipe,
    folder: RunFolder,
    watch: Observers,
    found: Latest,
    patience: Patience | None,
    until: int | None,
) -> Run:
    seed_everything(recipe.train.seed)
    session = open_session(recipe, folder, watch)
    _write_lock(session, resumed=found.manifest is not None)
    if found.manifest is not None:
        first = _restore(session, found.manifest.folder)
        session.evaluator(first)
    else:
        first = 0
        if session.evaluator.measures:
            with session.learner.as_before():
                session.evaluator.measure(0)
    session.parts.until = until
    with _stop_signals() as session.parts.stop:
        if patience is not None:
            patience.stop = session.parts.stop
        if found.manifest is None:
            session.parts.save(0, True)  # The way back to the start.
        if until is None or first < until:
            loop.train(session.parts, first)
    session.parts.loader.close()
    if until is not None and until <= (whole := session.parts.loader.num_steps):
        raise Interrupted("training", got=f"a request to stop after step {until} of {whole}")
    if warning := stunted(Timeline.read(folder.events)):
        watch.notice(Warned(warning))
    report = finish(session)
    watch.notice(Finished(report["status"], report["reason"], 0))
    return Run(folder)


def _require_step(until: int | None) -> None:
    if until is not None and until < 1:
        raise CommandError("--until", got=str(until), expected="a step, counted from 1")


def _restore(session: Session, checkpoint: Path) -> int:
    """Bring the session to a checkpoint; returns the steps done."""
    parts = session.parts
    values = restore(checkpoint, session.learner.trained, parts.optimizer, parts.ema)
    session.evaluator.history.update(read_history(values))
    parts.guard.load(values["guard"])
    parts.loader.leave_out(parts.guard.left_out)
    return values["step"]


def _write_lock(session: Session, resumed: bool) -> None:
    if resumed:
        for line in lock.require_same(session.folder, session.lock):
            session.watch.notice(Warned(f"not as when the run began: {line}; bits may differ"))
    else:
        write_json(session.folder.lock, session.lock)


def _require_some(folder: RunFolder, found: Latest) -> None:
    """Refuse to begin anew, unasked, a run whose every checkpoint is damaged."""
    damaged = quarantined(folder.checkpoints)
    if found.manifest is not None or not (damaged or found.quarantined):
        return
    why = "".join(f"; {text}" for _, text in found.quarantined[:1])
    raise CheckpointError(
        str(folder.checkpoints),
        got=f"no whole checkpoint: {len(damaged)} damaged ones are in {QUARANTINE}{why}",
        expected="one that verifies",
        hint=f"begin anew, the old run is kept: tunesmith train {folder.recipe}",
    )


def _require_unchanged(folder: RunFolder, recipe: Recipe, found: Latest) -> None:
    """Refuse to go on with another recipe than the checkpoint was made with."""
    if found.manifest is None:
        return
    before: dict[str, Any] = found.manifest.extra["recipe"]
    changed = lock.differences(before, lock.plain(recipe))
    if changed:
        raise CommandError(
            str(folder.path),
            got="a changed recipe: " + "; ".join(changed),
            expected="the recipe that the checkpoint was made with",
            hint="undo the change, or start a new run with tunesmith train",
        )


@contextmanager
def _observed(folder: RunFolder, others: Iterable[Observer]) -> Iterator[Observers]:
    """Observers of one session; however it ends, the last event says how."""
    watch = Observers(EventWriter(folder.events), others)
    try:
        yield watch
    except KeyboardInterrupt as error:
        got = error.got if isinstance(error, Interrupted) else "a request to stop at once"
        where = f"run {folder.path}"
        stopped = Interrupted(where, got=got, hint=f"go on with: tunesmith resume {folder.path}")
        _end(folder, watch, Finished("interrupted", str(stopped), stopped.exit_code))
        raise stopped from error
    except TunesmithError as error:
        _end(folder, watch, Finished("failed", str(error), error.exit_code))
        raise


def _end(folder: RunFolder, watch: Observers, last: Finished) -> None:
    """Tell how a run ended that did not succeed, and leave a report of what is known.

    A disk that refuses this too must not hide why the run ended.
    """
    with suppress(MachineError):
        watch.notice(last)
        if not folder.report_json.is_file():
            write_json(folder.report_json, unfinished(folder, Timeline.read(folder.events)))
            write_pages(folder)


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask for an end after the present step; a second one ends at once."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        sys.stderr.write("\nstopping after this step; Ctrl-C again stops at once\n")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # Signals reach the main thread alone; whoever runs it handles them.
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
