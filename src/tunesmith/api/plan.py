"""`plan`: what a recipe would do, and whether it fits; trains nothing."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tunesmith.api import build
from tunesmith.api.advice import Adviser, Change
from tunesmith.api.batches import build_loader
from tunesmith.api.learner import build_base, build_learner
from tunesmith.api.reference import rehearse_reference
from tunesmith.api.rehearsal import rehearse
from tunesmith.api.resolve import device, require_paths, resolve, source_of_rate
from tunesmith.api.rollouts import sampling_seconds
from tunesmith.api.rows import build_rows
from tunesmith.api.teacher import add_teacher
from tunesmith.data.contract import Check
from tunesmith.engine.fit import Fit, measure
from tunesmith.models.quantize import num_parameters
from tunesmith.recipe import Recipe, read
from tunesmith.runs.room import Room

FIT_SECONDS = 12.0
"""What measuring the pace may take: the plan is asked for its figures."""


@dataclass(frozen=True)
class Plan:
    """What would happen."""

    recipe: Recipe
    """Resolved: every open choice made."""
    rate_source: str
    """Where the learning rate comes from."""
    base_parameters: int
    rows_train: int
    rows_eval: int
    tokens: int
    tokens_trained: int
    checks: list[Check]
    num_steps: int
    num_epochs: float
    device: str
    targets: dict[str, int]
    trainable_parameters: int
    fit: Fit
    evaluation_seconds: float
    """All evaluations of the run; the fit speaks of training alone."""
    reference_seconds: float
    """Asking the model before step 1 how likely each answer is; 0 where no method asks, and where
    it is known from before."""
    sampling_seconds: float | None
    """All answers of a method that draws them, judged; None for the others."""
    room: Room
    """On the disk, for checkpoints and the export."""
    changes: list[Change]
    """What would make it fit; empty where it fits."""


def plan(recipe: Recipe | str | Path, overrides: Sequence[str] = ()) -> Plan:
    """Build the parts of a run, measure passes, steps and answers of it, and stop there.

    Args:
        recipe: A recipe, or the path of one.
        overrides: Texts `section.key=value`; only with a path.

    Raises:
        TunesmithError: As `train` would, before its first step.
    """
    if not isinstance(recipe, Recipe):
        recipe = read(recipe, overrides)
    recipe = resolve(recipe)
    require_paths(recipe)
    build.seed_everything(recipe.train.seed)
    base = build_base(recipe)
    rows = build_rows(recipe, base)
    parameters = num_parameters(base.model)
    learner = build_learner(recipe, base, rows)
    trial = build.build_trial(recipe, learner)
    with closing(build_loader(recipe, rows)) as loader:
        asking = rehearse_reference(recipe, base.source, rows, learner, loader)
        add_teacher(recipe, base, rows, loader, lambda event: None)
        evaluating = rehearse(recipe, rows, learner, loader.num_steps)
        sampling = sampling_seconds(loader, recipe, rows, learner)
        measured = measure(trial, loader, FIT_SECONDS)
        room = build.build_room(recipe, learner, trial, loader.num_steps)
        changes = Adviser(recipe, rows, learner, trial, loader, measured).changes()
    counts = rows.train.counts
    return Plan(
        recipe=recipe,
        rate_source=source_of_rate(recipe),
        base_parameters=parameters,
        rows_train=rows.num_train,
        rows_eval=len(rows.heldout) if rows.heldout else 0,
        tokens=counts.tokens,
        tokens_trained=counts.tokens_trained,
        checks=rows.checks,
        num_steps=loader.num_steps,
        num_epochs=loader.epoch_after(loader.num_steps - 1),
        device=str(device()),
        targets=learner.attached.targeted,
        trainable_parameters=learner.attached.num_trained,
        fit=measured,
        evaluation_seconds=evaluating,
        reference_seconds=asking,
        sampling_seconds=sampling,
        room=room,
        changes=changes,
    )
