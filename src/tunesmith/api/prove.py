"""`prove`: shows on the user's own recipe that a run which is killed and resumed loses no bit."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from tunesmith.api import lock
from tunesmith.api.proof.compare import (
    COUNTERS,
    EVALUATIONS,
    KINDS,
    OPTIMIZER,
    WEIGHTS,
    Found,
    compare,
)
from tunesmith.api.proof.laws import Claim, laws
from tunesmith.api.proof.miniature import Cut, cut, measured, plain
from tunesmith.api.proof.planned import Planned
from tunesmith.api.proof.sessions import Launch, Sessions, fresh_process
from tunesmith.api.proof.trace import Trace
from tunesmith.api.resolve import require_paths, resolve
from tunesmith.config.yaml_file import read_yaml
from tunesmith.recipe import Recipe, from_dict
from tunesmith.runs.durable import disk_errors, make_folder
from tunesmith.runs.events import now
from tunesmith.runs.folder import RunFolder, write_json
from tunesmith.runs.report.write import write as write_pages

FIRST, KILLED, AGAIN = "first", "killed", "second"


def prove(
    path: str | Path,
    steps: int | None = None,
    tell: Callable[[str], None] = lambda text: None,
    launch: Launch = fresh_process,
) -> dict[str, Any]:
    """Train the first steps of a run's recipe three times, and compare every bit.

    Once without a stop; once killed by SIGKILL inside a save, resumed, killed after a save and
    resumed again; once more from the start, without the measures between steps. All of it happens
    in `RUN/proof`, of which the certificate stays; the run itself is not touched, but for its
    report, which gets the certificate.

    Args:
        path: The run folder; the run may have ended in any way.
        steps: How many; about 6, and past the end of an epoch where that comes soon, if left out.
        tell: Gets a sentence before each process is started.
        launch: Starts the processes.

    Returns:
        The certificate, as `proof/certificate.json` has it.

    Raises:
        CommandError: No run, another base or other data than it was made with, or too few steps.
        RunError: A process ended otherwise than it should.
    """
    start = perf_counter()
    folder = RunFolder.open(Path(path))
    recipe = resolve(from_dict(read_yaml(folder.recipe), str(folder.recipe)))
    require_paths(recipe)
    tell("the plan of the run")
    planned = Planned.of(recipe)
    notes = lock.require_same(folder, planned.lock) if folder.lock.is_file() else []
    where = cut(planned.num_steps, planned.schedule.steps_in(0), steps)
    with folder.hold(), _cleared(folder.proof) as place:
        sessions = Sessions(place, where, tell, launch)
        traces = _train(sessions, recipe, planned)
        certificate = _certificate(recipe, planned, where, traces)
        certificate |= {"notes": notes, "seconds": perf_counter() - start, "made": now()}
        write_json(folder.proof / "certificate.json", certificate)
        _report(folder, certificate)
    return certificate


def _train(sessions: Sessions, recipe: Recipe, planned: Planned) -> dict[str, Trace]:
    """The three runs; each is read and deleted before the next, since a checkpoint can be large."""
    small = measured(recipe, sessions.cut, planned.num_heldout)
    traces = {}
    for name, train, what in (
        (FIRST, sessions.straight, small),
        (KILLED, sessions.killed, small),
        (AGAIN, sessions.straight, plain(recipe, sessions.cut)),
    ):
        folder = train(name, what)
        traces[name] = Trace.read(folder, sessions.cut.steps)
        shutil.rmtree(folder.path)
    return traces


def _certificate(
    recipe: Recipe, planned: Planned, where: Cut, traces: dict[str, Trace]
) -> dict[str, Any]:
    first = traces[FIRST]
    resumed = compare(first, traces[KILLED], planned)
    again = compare(first, traces[AGAIN], planned)
    again.pop(EVALUATIONS, None)  # It makes none, to show that they change nothing.
    own = laws(recipe, planned, first)
    claims = [
        *_claims("killed and resumed", first, resumed, KINDS),
        *_claims("trained again", first, again, KINDS[:-1]),
        *own,
    ]
    told = [f"killed and resumed, {kind}: {resumed[kind]}" for kind in KINDS if kind in resumed]
    told += [f"trained again, {kind}: {again[kind]}" for kind in KINDS if kind in again]
    told += [f"{claim.says}: {claim.figure}" for claim in own if not claim.ok]
    return {
        "ok": all(claim.ok for claim in claims),
        "steps": where.steps,
        "num_steps": planned.num_steps,
        "epoch_steps": planned.schedule.steps_in(0),
        "killed": [
            {"step": where.second, "when": "inside the save", "resumed_from": where.first},
            {"step": where.second, "when": "after the save", "resumed_from": where.second},
        ],
        "claims": [asdict(claim) for claim in claims],
        "differences": told,
        "compared": first.hashes(),
        "measured_between_steps": [each["step"] for each in first.evaluations],
        "recipe_sha256": planned.lock["recipe_sha256"],
        "versions": planned.lock["versions"],
        "machine": planned.lock["machine"],
    }


def _claims(how: str, first: Trace, found: Found, kinds: tuple[str, ...]) -> list[Claim]:
    """That a run equals the first one, kind by kind."""
    rejected = sum(step["rejected"] for step in first.steps)
    figures = {
        WEIGHTS: f"{len(first.weights)} tensors",
        OPTIMIZER: f"{len(first.optimizer)} tensors",
        COUNTERS: f"{rejected} steps rejected",
        EVALUATIONS: f"{len(first.evaluations)}",
    }
    steps = f"{len(first.steps)} steps"
    return [
        Claim(
            f"{how}: the same {kind}", kind not in found, found.get(kind, figures.get(kind, steps))
        )
        for kind in kinds
    ]


def _report(folder: RunFolder, certificate: dict[str, Any]) -> None:
    """Let the report of a run that has one include the certificate."""
    if folder.report_json.is_file():
        report = json.loads(folder.report_json.read_text(encoding="utf-8"))
        write_json(folder.report_json, {**report, "proof": certificate})
        write_pages(folder)


@contextmanager
def _cleared(folder: Path) -> Iterator[Path]:
    """An empty folder to train in, inside `folder`; gone after the block, however it ends."""
    place = folder.absolute() / "runs"
    with disk_errors(place):
        shutil.rmtree(place, ignore_errors=True)
        make_folder(place)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
