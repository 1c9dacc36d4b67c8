"""One sitting of a run: every part built and wired, ready for the loop."""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

from tunesmith.api import build, lock
from tunesmith.api.batches import build_loader
from tunesmith.api.judges import bind_tasks
from tunesmith.api.learner import Learner, build_base, build_learner
from tunesmith.api.measures import (
    Answers,
    BoundProbe,
    build_heldout,
    build_probe,
    build_tasks,
    probe_names,
)
from tunesmith.api.reference import add_reference
from tunesmith.api.resolve import device
from tunesmith.api.rollouts import supply
from tunesmith.api.rows import Rows, build_rows
from tunesmith.api.teacher import add_teacher
from tunesmith.data.loader import Loader
from tunesmith.engine.best import ranking
from tunesmith.engine.evaluation import Evaluator
from tunesmith.engine.fit import Fit, measure
from tunesmith.engine.observers import Observers
from tunesmith.engine.parts import Parts
from tunesmith.engine.precision import lag
from tunesmith.engine.rewind import Rewind
from tunesmith.engine.saving import Saver
from tunesmith.engine.shrink import attempt
from tunesmith.errors import MachineError
from tunesmith.export.artefact import fingerprints
from tunesmith.models.base import Base
from tunesmith.recipe import Recipe
from tunesmith.runs.events import Evaluated, Phase, Planned, Warned
from tunesmith.runs.folder import RunFolder
from tunesmith.runs.room import Room

FIT_SECONDS = 2.0
"""What measuring the pace may take at the start of a run, which will soon know it better."""


@dataclass
class Session:
    """What `train` and `resume` work with."""

    recipe: Recipe
    folder: RunFolder
    watch: Observers
    base: Base
    rows: Rows
    learner: Learner
    parts: Parts
    evaluator: Evaluator
    lock: dict[str, Any]
    fit: Fit
    start: dict[str, str]
    """Hashes of the trained parameters before step 1."""

    @property
    def best(self) -> int | None:
        """The step to export, as far as it is known."""
        return self.best_without(frozenset())

    def best_without(self, damaged: Set[int]) -> int | None:
        """The same among the steps whose checkpoints are not in `damaged`."""
        whole = [e for step, e in self.evaluator.history.items() if step not in damaged]
        return best_among(whole, self.recipe)


def best_of(recipe: Recipe, evaluator: Evaluator) -> int | None:
    """The best evaluated step within the budget; without measures, none is needed."""
    return best_among(evaluator.history.values(), recipe)


def best_among(history: Iterable[Evaluated], recipe: Recipe) -> int | None:
    """The best of these evaluations, by the recipe's first task and within its budget.

    Where forgetting could not be measured even once, which the report says, a budget would throw
    the whole run away for a fault of the measure: then it is left aside.
    """
    return next(iter(ranked(history, recipe)), None)


def ranked(history: Iterable[Evaluated], recipe: Recipe) -> list[int]:
    """All steps that `best_among` may choose, the best first."""
    history, tasks = list(history), recipe.evaluate.tasks
    later = [each for each in history if each.step > 0]
    failed = all(each.skipped and each.forgetting is None for each in later)
    budget = None if failed else recipe.evaluate.forgetting_budget
    return ranking(history, budget, tasks[0].name if tasks else None)


def last_saved(recipe: Recipe, num_steps: int) -> list[int]:
    """The last checkpoints that are to be averaged, the newest first; empty where none are.

    A function of the recipe: what a run saves besides, because it was stopped, is none of them.
    """
    every, number = recipe.checkpoint.every, (recipe.checkpoint.average or {}).get("last", 0)
    due = [num_steps, *range((num_steps - 1) // every * every, 0, -every)]
    return due[:number]


def open_session(recipe: Recipe, folder: RunFolder, watch: Observers) -> Session:
    """Build everything that a run needs, in the order in which errors are cheapest to meet."""
    watch.notice(Phase(f"loading {recipe.model.base}"))
    base = build_base(recipe)
    watch.notice(Phase("reading rows"))
    rows = build_rows(recipe, base, watch.notice)
    _tell_contract(rows, watch)
    _tell_precision(recipe, watch)
    tasks = build_tasks(recipe, rows.renderer)
    learner = build_learner(recipe, base, rows)
    loader = build_loader(recipe, rows)
    _tell_plan(recipe, rows, learner, loader, watch)
    answers = Answers(learner, rows.renderer, recipe.evaluate.batch_rows)
    add_reference(recipe, base.source, rows, learner, loader, watch.notice)
    add_teacher(recipe, base, rows, loader, watch.notice)
    supply(loader, recipe, rows, learner, folder, watch.notice)
    watch.notice(Phase("measuring one step on the worst batch"))
    trial = build.build_trial(recipe, learner)
    measured = measure(trial, loader, FIT_SECONDS)
    _require_room(recipe, build.build_room(recipe, learner, trial, loader.num_steps), watch)
    if recipe.evaluate.probes:
        watch.notice(Phase("asking the base general questions, to see later what is forgotten"))
    probes, missing = _probes(recipe, learner, answers, folder, watch)
    evaluator = Evaluator(
        policy=learner.policy,
        speaker=answers,
        heldout=build_heldout(recipe, rows, learner),
        tasks=bind_tasks(tasks, recipe, learner, rows.renderer),
        probes=probes,
        missing=missing,
        folder=folder.path / "evaluations",
        every=recipe.evaluate.every,
        num_steps=loader.num_steps,
        notice=watch.notice,
    )
    locked = lock.describe(recipe, base.source, rows.sha256)
    parts = build.build_parts(recipe, learner, loader, watch.notice)
    parts.evaluate, evaluator.weights = evaluator, parts.measured
    parts.save = _saver(recipe, folder, parts, learner, evaluator, locked)
    parts.rewind = Rewind(
        folder.checkpoints,
        learner.trained,
        parts.optimizer,
        parts.ema,
        parts.guard,
        loader,
        evaluator.history,
        watch.notice,
    )
    start = fingerprints(learner.attached.trained)
    return Session(
        recipe, folder, watch, base, rows, learner, parts, evaluator, locked, measured, start
    )


def _probes(
    recipe: Recipe, learner: Learner, answers: Answers, folder: RunFolder, watch: Observers
) -> tuple[list[BoundProbe], tuple[str, ...]]:
    """The probes that the base could be asked, and the names of the others."""
    bound, missing = [], []
    for name in probe_names(recipe):
        ask = partial(build_probe, name, recipe, learner, folder=folder.probes)
        try:
            bound.append(attempt(answers, lambda smaller, ask=ask: ask(answers=smaller))[0])
        except (MachineError, KeyboardInterrupt):
            raise
        except Exception as error:
            missing.append(f"probe {name}")
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            watch.notice(Warned(f"the base could not be asked, no probe {name} is made ({why})"))
    return bound, tuple(missing)


def _saver(
    recipe: Recipe,
    folder: RunFolder,
    parts: Parts,
    learner: Learner,
    evaluator: Evaluator,
    locked: dict[str, Any],
) -> Saver:
    """What writes the checkpoints."""
    return Saver(
        root=folder.checkpoints,
        trained=learner.trained,
        optimizer=parts.optimizer,
        ema=parts.ema,
        every=recipe.checkpoint.every,
        keep=recipe.checkpoint.keep,
        manifest={"recipe": lock.plain(recipe), "lock": locked},
        history=evaluator.history,
        best=lambda: best_of(recipe, evaluator),
        also_kept=lambda: _averaged(recipe, evaluator),
        guard=parts.guard,
        notice=parts.notice,
    )


def _averaged(recipe: Recipe, evaluator: Evaluator) -> set[int]:
    """Steps whose checkpoints will be averaged, as far as that is known."""
    number = (recipe.checkpoint.average or {}).get("best", 0)
    best = ranked(evaluator.history.values(), recipe)[:number]
    return {*best, *last_saved(recipe, evaluator.num_steps)}


def _require_room(recipe: Recipe, room: Room, watch: Observers) -> None:
    """Warn of a disk that is too small, or refuse it where the run would not wait for room."""
    if room.fits:
        return
    if recipe.checkpoint.on_full_disk == "fail":
        raise room.shortage()
    watch.notice(Warned(room.shortage().message))


def _tell_contract(rows: Rows, watch: Observers) -> None:
    for check in rows.checks:
        if not check.ok:
            watch.notice(Warned(f"token contract: {check.name}: {check.says}"))
    counts = rows.train.counts
    if counts.dropped or counts.truncated or counts.skipped:
        watch.notice(
            Warned(
                f"{counts.dropped} rows dropped, {counts.truncated} truncated, "
                f"{counts.skipped} skipped as unreadable, as the recipe allows"
            )
        )


def _tell_precision(recipe: Recipe, watch: Observers) -> None:
    slower = lag(recipe.train.precision, device())
    if slower > 1:
        watch.notice(
            Warned(
                f"train.precision: {recipe.train.precision} takes {slower:.0f} times as long as "
                "fp32 for the products of this processor, which has no instructions for it; auto "
                "would take fp32"
            )
        )


def _tell_plan(
    recipe: Recipe, rows: Rows, learner: Learner, loader: Loader, watch: Observers
) -> None:
    counts = rows.train.counts
    watch.notice(
        Planned(
            num_steps=loader.num_steps,
            num_epochs=loader.epoch_after(loader.num_steps - 1),
            rows_train=rows.num_train,
            rows_eval=len(rows.heldout) if rows.heldout else 0,
            tokens=counts.tokens,
            tokens_trained=counts.tokens_trained,
            trainable_parameters=learner.attached.num_trained,
            precision=recipe.train.precision,
            device=str(device()),
        )
    )
