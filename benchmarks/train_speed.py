"""Training speed of the starter model: fast kernels against the reference, alternating.

Both sides train the same packed batches of the quickstart rows; what differs is `train.kernels`.
Prints one table, and writes it with versions and machine to benchmarks/results/train_speed.json.
"""

import json
import platform
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from tunesmith.adapters import base as adapters
from tunesmith.api import build
from tunesmith.api.resolve import resolve
from tunesmith.engine.loop import set_rate
from tunesmith.models import lora
from tunesmith.models.policy import Policy
from tunesmith.recipe import read

REPEATS = 5
STEPS = 2
"""Optimizer steps per repeat and side."""
RESULTS = Path(__file__).parent / "results" / "train_speed.json"


def main() -> None:
    """Measure and print."""
    recipe = resolve(read("recipes/quickstart.yaml"))
    build.seed_everything(0)
    base = build.build_base(recipe)
    rows = build.build_rows(recipe, base)
    learner = build.build_learner(recipe, base)
    loader = build.build_loader(recipe, rows)
    optimizer = build.build_optimizer(recipe, learner)
    set_rate(optimizer, 0.0)
    speeds: dict[str, list[float]] = {"reference": [], "fast": []}
    for repeat in range(-1, REPEATS):
        for kernels, found in speeds.items():
            (lora.lay_over if kernels == "fast" else lora.take_off)(learner.attached.model)
            policy = Policy(learner.attached.model, kernels, learner.policy.precision)
            loss = build.build_loss(recipe, replace(learner, policy=policy))
            speed = _tokens_per_second(loader, loss, optimizer, max(repeat, 0))
            if repeat >= 0:  # The first round warms caches up.
                found.append(speed)
    _report(recipe.train.precision, speeds)


def _tokens_per_second(loader, loss, optimizer, repeat: int) -> float:
    tokens, start = 0, perf_counter()
    for step in range(repeat * STEPS, (repeat + 1) * STEPS):
        for batch in loader.step(step):
            loss(batch).total.backward()
            tokens += batch.num_tokens
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return tokens / (perf_counter() - start)


def _report(precision: str, speeds: dict[str, list[float]]) -> None:
    ratios = [f / r for f, r in zip(speeds["fast"], speeds["reference"], strict=True)]
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "precision": precision,
        "adapters": adapters.names(),
        "tokens_per_second": speeds,
        "ratio": {"median": median(ratios), "low": min(ratios), "high": max(ratios)},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    for kernels, found in speeds.items():
        print(f"{kernels:10} {median(found):8.0f} tokens/s  ({min(found):.0f} to {max(found):.0f})")
    print(f"ratio      {median(ratios):8.2f}           ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
