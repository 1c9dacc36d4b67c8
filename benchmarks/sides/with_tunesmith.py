"""Tunesmith: the session that `tunesmith train` opens, and its loop.

Only what comes after training is left out (checkpoint, evaluation, export): nothing of it is timed
for any side.
"""

import json
from pathlib import Path
from time import perf_counter
from typing import Any

from steps import Refused, Steps, read_rows, report

from tunesmith.api.build import seed_everything
from tunesmith.api.resolve import resolve
from tunesmith.api.session import open_session
from tunesmith.data.order import epoch_order
from tunesmith.engine import loop
from tunesmith.engine.observers import Observers
from tunesmith.errors import MachineError, RecipeError
from tunesmith.recipe import Recipe, from_dict
from tunesmith.runs.events import Event, EventWriter, Step
from tunesmith.runs.folder import RunFolder

SEED = 0


class Watch:
    """An observer that writes down each step as it is told."""

    def __init__(self) -> None:
        self.steps = Steps()

    def notice(self, event: Event) -> None:
        """Take note of a step; everything else passes."""
        if isinstance(event, Step):
            self.steps.saw(event.tokens, event.tokens_trained, event.tokens)
            self.steps.done()
            self.steps.lost(event.loss)


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Train and report."""
    work = Path(job["work"])
    try:
        recipe = resolve(_recipe(job, _rows_in_order(job, work / "rows.jsonl"), work / "run"))
        folder, _ = RunFolder.create(work / "run")
        watch = Watch()
        seed_everything(SEED)
        with folder.hold():
            observers = Observers(EventWriter(folder.events), [watch])
            begin = perf_counter()
            session = open_session(recipe, folder, observers)
            ready = perf_counter() - begin
            session.parts.save = lambda step, must: None
            loop.train(session.parts)
            session.parts.loader.close()
    except (RecipeError, MachineError) as error:
        raise Refused(f"Tunesmith: {error}".replace("\n", "; ")) from error
    settings = {"precision": recipe.train.precision, "kernels": recipe.train.kernels}
    return {"steps": watch.steps.list, "settings": settings, "build_seconds": ready}


def _rows_in_order(job: dict[str, Any], path: Path) -> Path:
    """Write the rows to `path` so that the loop's shuffled order comes out as the job's order."""
    rows = read_rows(job)
    order = epoch_order([len(rows)], [1.0], SEED, 0)
    lines = [""] * len(rows)
    for place, row in zip(order.tolist(), rows, strict=True):
        kept = {key: row[key] for key in ("messages", "prompt", "chosen", "rejected") if key in row}
        lines[place] = json.dumps(kept, ensure_ascii=False)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _recipe(job: dict[str, Any], rows: Path, run: Path) -> Recipe:
    adapter = {"name": job["adapter"]}
    if job["adapter"] == "lora":
        adapter |= {"rank": job["rank"], "alpha": job["alpha"], "dropout": 0.0}
    return from_dict(
        {
            "model": {"base": job["base"], "quantize": job["quantize"]},
            "data": {"train": str(rows), "max_tokens": job["max_tokens"]},
            "adapter": adapter,
            "method": {"name": job["method"]},
            "train": {
                "steps": job["steps"],
                "batch_rows": job["rows_per_step"],
                "learning_rate": job["learning_rate"],
                "schedule": "constant",
                "warmup": 0,
                "seed": SEED,
                "kernels": job.get("kernels", "fast"),
            },
            "evaluate": {"probes": []},
            "output": {"dir": str(run)},
        }
    )


if __name__ == "__main__":
    report(main)
