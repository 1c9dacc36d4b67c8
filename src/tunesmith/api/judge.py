"""`judge`: what a run whose model does not write makes of the rows of a file."""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.api.overall import overall
from tunesmith.api.reader import MAX_TOKENS, open_reader
from tunesmith.config.home import home
from tunesmith.config.yaml_file import read_yaml
from tunesmith.data.collate import collate
from tunesmith.data.order import plan_batches
from tunesmith.data.section import Source
from tunesmith.data.store import PrepareOptions, prepare
from tunesmith.evaluate.heldout import measured
from tunesmith.evaluate.statistics import paired_bootstrap
from tunesmith.methods import base as methods
from tunesmith.models.resting import resting
from tunesmith.recipe import Recipe, from_dict
from tunesmith.runs.folder import RunFolder


def recipe_of(name: str | Path) -> Recipe | None:
    """The recipe of a run whose model does not write; None for everything else."""
    folder = RunFolder(Path(name))
    if not folder.exists:
        return None
    recipe = from_dict(read_yaml(folder.recipe), str(folder.recipe))
    return recipe if methods.head_of(recipe.method) else None


def judge(name: str | Path, recipe: Recipe, path: str) -> dict[str, Any]:
    """Measure the rows of a file as the run measures its held-out rows.

    Args:
        name: The run folder.
        recipe: From `recipe_of`.
        path: Data file of the method's row shape.

    Returns:
        `task`, `n`, `loss`; `figures` by name with `mean` and `interval` (95 %); `overall` by name.

    Raises:
        DataError: Rows that the method cannot read.
    """
    reader = open_reader(name)
    method = methods.load(recipe.method.name)
    encoder = method.encoder(reader.whole.renderer, recipe.method)
    options = PrepareOptions(recipe.data.max_tokens, overlong="truncate")
    rows = prepare((Source(path=path),), encoder, options, home() / "examples")
    bounds = plan_batches(rows.lengths, np.arange(len(rows)), None, MAX_TOKENS)
    lay = partial(collate, packed=True, pad_id=reader.whole.pad_id)
    batches = [lay([rows[i] for i in range(*span)]) for span in pairwise(bounds)]
    told = {"config": recipe.method}
    with resting(reader.model):
        if hasattr(method, "ahead"):
            batches = methods.informed(partial(method.ahead, reader.policy, **told), batches)
        measure = partial(method.measure, reader.policy, **told)
        found = measured(measure, batches)
    return {
        "task": Path(path).stem,
        "n": len(rows),
        "loss": found.loss,
        "figures": {name: _figure(values) for name, values in found.figures.items()},
        "overall": overall(method, rows, found),
    }


def _figure(values: np.ndarray) -> dict[str, Any]:
    interval = paired_bootstrap(np.zeros(len(values)), values)
    return {"mean": float(values.mean()), "interval": [interval.low, interval.high]}
