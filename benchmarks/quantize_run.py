"""One run of LoRA over one base, for `benchmarks.quantize`, in a process of its own.

    python -m benchmarks.quantize_run JOB

JOB is JSON: `base`, `task`, `kind`, `repeat`, `steps`, `train`, `eval`, `learning_rate`. The last
line of the output is the `Result` as JSON.
"""

import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch

from tunesmith.api import build
from tunesmith.api.batches import build_loader
from tunesmith.api.learner import Learner, build_base, build_learner
from tunesmith.api.measures import build_heldout
from tunesmith.api.resolve import device, resolve
from tunesmith.api.rows import Rows, build_rows
from tunesmith.engine import loop
from tunesmith.engine.memory import peak_gib
from tunesmith.engine.parts import Parts
from tunesmith.evaluate.heldout import heldout_loss
from tunesmith.models.quantize import num_bytes
from tunesmith.recipe import Recipe, from_dict
from tunesmith.runs.events import Event, Step


@dataclass(frozen=True)
class Result:
    """What one run over one base gave.

    Attributes:
        task: Which rows.
        kind: How the base was held.
        repeat: Number and seed.
        before: Held-out loss before training, nats per trained token.
        after: The same after training.
        after_wide: The same with the adapter over the base as published.
        tokens_per_second: Over the steps after the first.
        weight_mb: Of all frozen weights, in MB of 10^6 bytes.
        peak_gib: Of the process, until the end of training.
        losses: Of each step.
    """

    task: str
    kind: str
    repeat: int
    before: float
    after: float
    after_wide: float
    tokens_per_second: float
    weight_mb: float
    peak_gib: float
    losses: list[float]


def main() -> None:
    """Do the job on the command line."""
    print(json.dumps(asdict(measure(json.loads(sys.argv[1])))))


def measure(job: dict[str, Any]) -> Result:
    """Train over one base and measure; in a process of its own."""
    recipe = _recipe(job)
    build.seed_everything(recipe.train.seed)
    base = build_base(recipe)
    weight_mb = num_bytes(base.model) / 1e6
    rows = build_rows(recipe, base)
    learner = build_learner(recipe, base)
    heldout = build_heldout(recipe, rows, learner).batches()
    before = _loss(learner, heldout)
    steps: list[Step] = []
    loop.train(_parts(recipe, rows, learner, steps))
    peak, after = peak_gib(device()), _loss(learner, heldout)
    return Result(
        task=job["task"],
        kind=job["kind"],
        repeat=job["repeat"],
        before=before,
        after=after,
        after_wide=after if job["kind"] == "none" else _over_wide(recipe, learner, heldout),
        tokens_per_second=sum(s.tokens for s in steps[1:]) / sum(s.seconds for s in steps[1:]),
        weight_mb=weight_mb,
        peak_gib=peak,
        losses=[step.loss for step in steps],
    )


def _recipe(job: dict[str, Any]) -> Recipe:
    return resolve(
        from_dict(
            {
                "model": {"base": job["base"], "quantize": job["kind"]},
                "data": {
                    "train": job["train"],
                    "eval": job["eval"],
                    "max_tokens": job.get("max_tokens", 1024),
                    "overlong": "drop",
                },
                "adapter": {"name": "lora", "rank": 16},
                "train": {
                    "steps": job["steps"],
                    "learning_rate": job["learning_rate"],
                    "batch_rows": 8,
                    "seed": job["repeat"],
                },
            }
        )
    )


def _parts(recipe: Recipe, rows: Rows, learner: Learner, steps: list) -> Parts:
    """The loop of a real run, without measures and checkpoints on the way."""
    loader = build_loader(recipe, rows)

    def notice(event: Event) -> None:
        if isinstance(event, Step):
            steps.append(event)

    return build.build_parts(recipe, learner, loader, notice)


def _loss(learner: Learner, heldout: list) -> float:
    learner.policy.model.eval()
    with torch.no_grad():
        return heldout_loss(learner.policy.token_nll, heldout).loss


def _over_wide(recipe: Recipe, trained: Learner, heldout: list) -> float:
    """Held-out loss of the trained adapter over the base as published."""
    wide = recipe.model_copy(update={"model": recipe.model.model_copy(update={"quantize": "none"})})
    learner = build_learner(wide, build_base(wide))
    with torch.no_grad():
        for name, parameter in trained.attached.trained.items():
            learner.attached.trained[name].copy_(parameter)
    return _loss(learner, heldout)


if __name__ == "__main__":
    main()
