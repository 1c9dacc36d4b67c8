"""Fills in what a recipe left open, so that the run folder says what really ran."""

import os
from pathlib import Path
from typing import TypeVar

import torch

from tunesmith.adapters import base as adapters
from tunesmith.config.section import Section
from tunesmith.data.section import DataSection, Source
from tunesmith.data.sources import EXPECTED
from tunesmith.engine import precision
from tunesmith.engine.precision import DTYPES
from tunesmith.engine.section import TrainSection
from tunesmith.engine.usual_rate import UsualRate, usual_rate
from tunesmith.errors import RecipeError
from tunesmith.evaluate.section import EvaluateSection
from tunesmith.methods import base as methods
from tunesmith.models.shape import shape_of
from tunesmith.recipe import Recipe

S = TypeVar("S", bound=Section)

BASE = "base"
"""The value of `data.replay.from` for the base's own answers."""
TEXT_FOLDERS = ("data.train", "data.eval", "data.replay.from")
"""Keys that may name a folder of texts."""

DEFAULT_ROWS = 8
"""Rows in one forward pass when the recipe gives neither rows nor tokens."""


def device() -> torch.device:
    """Where training runs: the first GPU if there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve(recipe: Recipe) -> Recipe:
    """The recipe with every open choice made and every path absolute.

    A resolved recipe resolves to itself, and repeats the run from any folder on this machine.

    Raises:
        RecipeError: The method looks at the rows for its keys, and a data file is not there.
        DataError: It found nothing in them.
    """
    found = _with(
        recipe,
        model=_with(recipe.model, base=_local(recipe.model.base)),
        data=_data(recipe.data),
        adapter=_adapter(recipe.adapter),
        train=_train(recipe),
        evaluate=_evaluate(recipe.evaluate),
        output=_with(recipe.output, dir=_absolute(recipe.output.dir or "runs/run")),
    )
    if hasattr(methods.load(found.method.name), "settle"):
        require_paths(found)
    whole = _with(found, method=methods.settled(found.method, found.data.train_sources))
    if whole.train.learning_rate is not None:
        return whole
    require_paths(whole)  # Before a base is fetched for nothing.
    return _with(whole, train=_with(whole.train, learning_rate=rate_of(whole).value))


def rate_of(recipe: Recipe) -> UsualRate:
    """The rate that `learning_rate: auto` stands for in this recipe."""
    shape = shape_of(recipe.model.base, recipe.model.revision)
    return usual_rate(adapters.load(recipe.adapter.name), recipe.adapter, shape)


def source_of_rate(recipe: Recipe) -> str:
    """Where the rate of a resolved recipe comes from."""
    usual = rate_of(recipe)
    return usual.source if recipe.train.learning_rate == usual.value else "the recipe"


def weights_dtype(recipe: Recipe) -> torch.dtype:
    """The type that the base is loaded in: fp32 where its weights do not stay as published."""
    return torch.float32 if adapters.changes_base(recipe.adapter) else frozen_dtype(recipe)


def frozen_dtype(recipe: Recipe) -> torch.dtype:
    """The type of frozen weights in a resolved recipe."""
    chosen = recipe.model.dtype
    return DTYPES[recipe.train.precision if chosen == "auto" else chosen]


def require_paths(recipe: Recipe) -> None:
    """Refuse a resolved recipe whose data files are not there, before anything heavy starts.

    Raises:
        RecipeError: Naming the key, the path and what lies beside it.
    """
    named = [("data.train", s.path) for s in recipe.data.train_sources]
    named += [("data.eval", s.path) for s in recipe.data.eval_sources]
    if recipe.data.replay and recipe.data.replay.from_ != BASE:
        named.append(("data.replay.from", recipe.data.replay.from_))
    named += [(f"evaluate.tasks.{i}.path", t.path) for i, t in enumerate(recipe.evaluate.tasks)]
    for key, path in named:
        if not Path(path).is_file() and not (key in TEXT_FOLDERS and Path(path).is_dir()):
            folder = Path(path).parent
            beside = sorted(p.name for p in folder.glob("*.*"))[:6] if folder.is_dir() else []
            raise RecipeError(
                key,
                got=f"{path}, which is no file",
                expected=EXPECTED,
                hint=f"that folder holds {', '.join(beside)}" if beside else "check the path",
            )


def _train(recipe: Recipe) -> TrainSection:
    section = recipe.train
    return _with(
        section,
        epochs=1.0 if section.epochs is None and section.steps is None else section.epochs,
        batch_rows=DEFAULT_ROWS
        if section.batch_rows is None and section.batch_tokens is None
        else section.batch_rows,
        precision=precision.resolve(section.precision, device()),
    )


def _adapter(section: Section) -> Section:
    """With the paths of the adapters that it begins with absolute."""
    given = {key: getattr(section, key, None) for key in ("from_", "on_top_of")}
    return _with(section, **{key: _absolute(path) for key, path in given.items() if path})


def _data(section: DataSection) -> DataSection:
    train = [_with(source, path=_absolute(source.path)) for source in section.train_sources]
    held = [_with(source, path=_absolute(source.path)) for source in section.eval_sources]
    replay = section.replay
    if replay and replay.from_ != BASE:
        replay = _with(replay, from_=_absolute(replay.from_))
    return _with(section, train=train, eval=held or section.eval_share, replay=replay)


def _evaluate(section: EvaluateSection) -> EvaluateSection:
    return _with(section, tasks=[_with(task, path=_absolute(task.path)) for task in section.tasks])


def _local(base: str) -> str:
    """A base that is a path here becomes absolute; `starter` and hub ids stay as they are."""
    return _absolute(base) if base != "starter" and Path(base).expanduser().exists() else base


def _absolute(path: str | Source) -> str:
    return os.path.abspath(os.path.expanduser(str(path)))


def _with(section: S, **values: object) -> S:
    """A copy with some keys changed; they come from code, so they are not checked again."""
    return section.model_copy(update=values)
