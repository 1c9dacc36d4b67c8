"""The lab's side for Tunesmith: `tunesmith.train`, then `tunesmith.resume`.

Usage: lab_tunesmith.py JOB; JSON with `base`, `rows`, `work`.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lab import KEEP, NUM_STEPS, SAVE_EVERY, Watch, serve
from lab_digest import digest
from lab_faults import answers
from safetensors.torch import load_file

from tunesmith.api import session
from tunesmith.api.run import Run
from tunesmith.api.train import resume, train
from tunesmith.checkpoint.layout import step_folder, steps
from tunesmith.checkpoint.verify import verify
from tunesmith.engine.saving import Saver
from tunesmith.errors import TunesmithError
from tunesmith.export import stranger
from tunesmith.methods import sft
from tunesmith.methods.base import LossSum
from tunesmith.recipe import Recipe, from_dict
from tunesmith.runs.events import Event, Started, Step, Warned

ROWS_PER_STEP = 4


class Listener:
    """An observer: keeps the warnings, the rejected steps and where the run is."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.step = 0
        self.resumed: int | None = None

    def notice(self, event: Event) -> None:
        """Take note."""
        if isinstance(event, Warned):
            self.said.append(event.message)
        elif isinstance(event, Started):
            self.resumed = event.resumed_from
        elif isinstance(event, Step):
            self.step = event.step
            if event.rejected:
                self.said.append(f"step {event.step} was rejected; its rows: {event.rows}")


class Tunesmith:
    """The Python interface, which the verbs of the command line call."""

    def __init__(self, job: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        # How fast a step is does not matter here; a run would measure it for two seconds.
        session.FIT_SECONDS = 0.0
        # The process that reloads artefacts imports torch; the children share the parent's.
        stranger._process()
        self.job = job

    def train(self, run: Path, watch: Watch) -> dict[str, Any]:
        """Train from the beginning."""
        return self._run(watch, lambda listener: train(self._recipe(run), observers=[listener]))

    def resume(self, run: Path, watch: Watch) -> dict[str, Any]:
        """`tunesmith resume RUN`."""
        return self._run(watch, lambda listener: resume(run, observers=[listener]))

    def checkpoints(self, run: Path) -> dict[int, Path]:
        """Folders `step-N`."""
        root = run / "checkpoints"
        return {step: step_folder(root, step) for step in steps(root)}

    def versions(self) -> dict[str, str]:
        """Of what takes part."""
        names = ("tunesmith", "torch", "transformers", "safetensors")
        return {name: version(name) for name in names}

    def _run(self, watch: Watch, begin: Any) -> dict[str, Any]:
        listener = Listener()
        _watch_saves(watch)
        _watch_loss(watch, listener)
        try:
            run = begin(listener)
        except TunesmithError as error:
            error.said = listener.said
            raise
        return {**_ending(run), "said": listener.said, "resumed": listener.resumed}

    def _recipe(self, run: Path) -> Recipe:
        return from_dict(
            {
                "model": {"base": self.job["base"]},
                "data": {"train": self.job["rows"], "max_tokens": 128},
                "adapter": {"name": "full"},
                "train": {
                    "steps": NUM_STEPS,
                    "batch_rows": ROWS_PER_STEP,
                    "learning_rate": 1e-3,
                    "precision": "fp32",
                    "seed": 0,
                },
                "evaluate": {"probes": []},
                "checkpoint": {"every": SAVE_EVERY, "keep": KEEP},
                "output": {"dir": str(run)},
            }
        )


def _watch_saves(watch: Watch) -> None:
    """Tell of each save that is due, its clearing up included."""
    save = Saver.__call__

    def watched(self: Saver, step: int, must: bool) -> None:
        due = must or step % SAVE_EVERY == 0
        if due:
            watch.save_begins(step)
        save(self, step, must)
        if due:
            watch.save_ended(step)

    Saver.__call__ = watched


def _watch_loss(watch: Watch, listener: Listener) -> None:
    """Poison the loss of a step. Passes before step 1 only measure, and are left alone."""
    loss = sft.loss

    def watched(*args: Any, **kwargs: Any) -> LossSum:
        found = loss(*args, **kwargs)
        if listener.step and watch.poisons(listener.step + 1):
            return LossSum(found.total * torch.nan, found.count)
        return found

    sft.loss = watched


def _ending(run: Run) -> dict[str, Any]:
    """Hashes of what the run hands over, and of the last checkpoint's optimizer."""
    state = load_file(
        verify(run.folder.checkpoints / f"step-{NUM_STEPS}").folder / "state.safetensors"
    )
    weights = {f"model/{n}": t for n, t in _exported(run).items()}
    weights |= {n: t for n, t in state.items() if n.startswith("parameter/")}
    moments = {n: t for n, t in state.items() if not n.startswith("parameter/")}
    finite = all(bool(torch.isfinite(t).all()) for t in weights.values())
    return {"weights": digest(weights), "optimizer": digest(moments), "finite": finite}


def _exported(run: Run) -> dict[str, torch.Tensor]:
    files = sorted(run.folder.model.glob("*.safetensors"))
    return {name: tensor for path in files for name, tensor in load_file(path).items()}


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    serve(answers(Tunesmith(asked), Path(asked["work"])))
