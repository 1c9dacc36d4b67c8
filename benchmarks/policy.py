"""Methods that learn from their own answers, on a task the starter learns in minutes.

Each recipe is trained for the same number of steps; told are the held-out score before and after,
with its interval, the mean reward of the answers drawn at each step, and how far the model is from
the base on general prompts (KL, nats per token).

    python -m benchmarks.policy OUT                         # about 20 CPU minutes a method and seed
    python -m benchmarks.policy OUT --methods grpo --steps 60 --seeds 0

OUT keeps the run folders; a run that is there already is gone on with, or read. The result is
`OUT/policy.json`, `OUT/policy.md` and `OUT/policy.png`.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.api.run import Run
from tunesmith.api.train import resume, train
from tunesmith.runs.folder import RunFolder
from tunesmith.runs.timeline import Timeline

METHODS = ("grpo", "rloo", "reinforce", "ppo", "rejection")
WINDOW = 10
"""Steps over which the curve is a mean."""


def main() -> None:
    """Train what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("overrides", nargs="*", help="section.key=value, for every run")
    asked = parser.parse_args()
    found = []
    for method in asked.methods:
        for seed in asked.seeds:
            place = asked.out / f"{method}-{seed}"
            changes = [f"train.steps={asked.steps}", f"train.seed={seed}", *asked.overrides]
            found.append(told(method, seed, done(method, place, changes)))
            (asked.out / "policy.json").write_text(json.dumps(found, indent=1))
    (asked.out / "policy.md").write_text(table(found))
    plot(found, asked.out / "policy.png")


def done(method: str, place: Path, changes: list[str]) -> Run:
    """The run, trained to its end."""
    if not RunFolder(place).exists:
        return train(f"recipes/{method}.yaml", [f"output.dir={place}", *changes])
    run = Run.open(place)
    if run.folder.report_json.is_file() and run.status == "succeeded":
        return run
    return resume(place)


def told(method: str, seed: int, run: Run) -> dict[str, Any]:
    """What the table has of a run."""
    steps = Timeline.read(run.folder.events).steps
    task = run.report["task"]
    return {
        "method": method,
        "seed": seed,
        "task": {name: task[name] for name in ("n", "before", "after", "gain", "interval")},
        "seconds": run.report["train"]["seconds"],
        "forgetting": run.report["forgetting"]["kl"],
        "steps": [step["step"] for step in steps],
        "reward": [step["figures"]["reward"] for step in steps],
        "entropy": [step["figures"]["entropy"] for step in steps],
        "answer_tokens": [step["figures"]["answer_tokens"] for step in steps],
    }


def table(runs: Iterable[dict[str, Any]]) -> str:
    """Markdown, a row for each run."""
    lines = [
        "| method | seed | steps | minutes | reward, first steps | last | held-out before | after "
        "| gain (95 %) | KL |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        task, reward = run["task"], run["reward"]
        low, high = task["interval"]
        lines.append(
            f"| {run['method']} | {run['seed']} | {len(reward)} | {run['seconds'] / 60:.1f} "
            f"| {np.mean(reward[:WINDOW]):.2f} | {np.mean(reward[-WINDOW:]):.2f} "
            f"| {task['before']:.2f} | {task['after']:.2f} "
            f"| {task['gain']:+.2f} ({low:+.2f} to {high:+.2f}) "
            f"| {run['forgetting']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def plot(runs: Iterable[dict[str, Any]], path: Path) -> None:
    """The reward by step, a line for each method and seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for run in runs:
        width = min(WINDOW, len(run["reward"]))
        smooth = np.convolve(run["reward"], np.ones(width) / width, "valid")
        label = f"{run['method']}, seed {run['seed']}"
        axes.plot(run["steps"][width - 1 :], smooth, label=label)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(f"mean reward of {WINDOW} steps")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    main()
