"""`find-lr`: measures a learning rate for a recipe on its own first steps; keeps nothing else."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tunesmith.api import build
from tunesmith.api.batches import SAMPLER, build_loader
from tunesmith.api.learner import build_base, build_learner
from tunesmith.api.reference import add_reference
from tunesmith.api.resolve import require_paths, resolve, source_of_rate
from tunesmith.api.rows import build_rows
from tunesmith.api.teacher import add_teacher
from tunesmith.engine.guard import Guard
from tunesmith.engine.loop import take_step
from tunesmith.engine.parts import Parts
from tunesmith.engine.range_test import RISE, Point, Rising, smoothed, suggest
from tunesmith.errors import CommandError
from tunesmith.methods import base as methods
from tunesmith.models.resting import resting
from tunesmith.recipe import Recipe, read

STEPS = 60
"""Steps of a test: ten for each factor of ten between LOW and HIGH."""
LOW, HIGH = 1e-6, 1.0


def find_lr(
    recipe: Recipe | str | Path,
    overrides: Sequence[str] = (),
    rates: Rising | None = None,
    plot: str | Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train a recipe's first steps with a rate that rises, and read a rate off the losses.

    Args:
        recipe: A recipe, or the path of one.
        overrides: Texts `section.key=value`; only with a path.
        rates: Which rates, in how many steps; 60 from 1e-6 to 1 when left out.
        plot: PNG to write; beside the run folder, ending in `-find-lr.png`, when left out.
        tell: Gets a sentence now and then.

    Returns:
        `points` (rate, loss, start, smoothed), `steepest`, `lowest`, `diverged`, `suggested`,
        `usual` with its `usual_source`, and `plot`.

    Raises:
        TunesmithError: As `train` would, before its first step.
        CommandError: Rates that do not rise, or a method whose loss tells nothing of a rate.
    """
    rates = rates or Rising(LOW, HIGH, STEPS)
    _require_rising(rates)
    if not isinstance(recipe, Recipe):
        recipe = read(recipe, overrides)
    recipe = resolve(recipe)
    _require_comparable(recipe)
    require_paths(recipe)
    points = _measure(_short(recipe, rates.num_steps), rates, tell)
    found = suggest(points)
    path = Path(plot or f"{recipe.output.dir}-find-lr.png")
    _draw(path, points, found.suggested)
    return {
        "points": [
            {**asdict(point), "smoothed": level}
            for point, level in zip(points, smoothed(points), strict=True)
        ],
        **asdict(found),
        "usual": recipe.train.learning_rate,
        "usual_source": source_of_rate(recipe),
        "plot": str(path),
    }


def _require_rising(rates: Rising) -> None:
    if not (0 < rates.low < rates.high and rates.num_steps >= 5):
        raise CommandError(
            "find-lr",
            got=f"{rates.num_steps} steps from {rates.low:g} to {rates.high:g}",
            expected="at least 5 steps from a rate above 0 to a higher one",
        )


def _require_comparable(recipe: Recipe) -> None:
    if SAMPLER in methods.load(recipe.method.name).NEEDS:
        raise CommandError(
            "find-lr",
            got=f"method.name: {recipe.method.name}, which draws the answers that it trains on",
            expected="a method that trains on rows: losses of other answers cannot be compared",
            hint="make short runs with several train.learning_rate and compare their rewards",
        )


def _short(recipe: Recipe, num_steps: int) -> Recipe:
    """The recipe with as many steps as the test has, and nothing that holds a step back."""
    keys = {"steps": num_steps, "epochs": None, "guard": False, "unfreeze": None, "ema": None}
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=keys)})


def _measure(recipe: Recipe, rates: Rising, tell: Callable[[str], None]) -> list[Point]:
    tell(f"loading {recipe.model.base} and the rows")
    build.seed_everything(recipe.train.seed)
    base = build_base(recipe)
    rows = build_rows(recipe, base)
    learner = build_learner(recipe, base)
    points: list[Point] = []
    with closing(build_loader(recipe, rows)) as loader:
        add_reference(recipe, base.source, rows, learner, loader, lambda event: None)
        add_teacher(recipe, base, rows, loader, lambda event: None)
        parts = build.build_parts(recipe, learner, loader, lambda event: None)
        parts.guard, parts.learning_rate = Guard(loader.num_steps, outliers=False), rates
        tell("the untrained model's loss of each step")
        starts = [_loss(parts, step) for step in range(rates.num_steps)]
        tell(f"{rates.num_steps} steps, the rate rising from {rates.low:g} to {rates.high:g}")
        for step, start in enumerate(starts):
            report = take_step(parts, step)
            points.append(Point(report.learning_rate, report.loss, start))
            if points[-1].ruined:
                break
    return points


@torch.no_grad()
def _loss(parts: Parts, step: int) -> float:
    """The loss of a step's rows under the model as it is, nothing dropped."""
    with resting(parts.model):
        sums = [parts.loss(batch.to(parts.device)) for batch in parts.loader.step(step)]
    return float(sum(part.total for part in sums)) / max(sum(part.count for part in sums), 1)


def _draw(path: Path, points: Sequence[Point], suggested: float | None) -> None:
    """The curve as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    rates = [point.rate for point in points]
    changes = [point.change if point.change < RISE else RISE for point in points]
    axes.plot(rates, changes, ".", color="#bbbbbb", label="each step")
    axes.plot(rates, smoothed(points), color="#4285c8", label="average of 5 steps")
    if suggested is not None:
        axes.axvline(suggested, color="#2f9e6e", label=f"suggested: {suggested:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss against the base, nats per token")
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
