"""Runs every recipe for a few steps: `make recipes`, or `python -m benchmarks.recipes NAME ...`.

Each in a process of its own, on the starter model, with its export and certificate. It says for
each what became of it, and ends with 1 if one failed.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks.train import report, train
from tunesmith import recipe

ROOT = Path(__file__).parents[1]
MOST_ROWS = 8
"""Rows of a task that are answered."""


def shortened(path: Path, steps: int, out: Path) -> recipe.Recipe:
    """The recipe with so many steps and few rows measured, in a folder of its own below `out`."""
    read = recipe.read(path)
    tasks = [
        task.model_copy(update={"limit": min(task.limit or MOST_ROWS, MOST_ROWS)})
        for task in read.evaluate.tasks
    ]
    changes = {
        "train": {"steps": steps, "epochs": None},
        "data": {"eval": None},
        "evaluate": {"tasks": tasks, "probes": [], "every": None, "forgetting_budget": None},
        "checkpoint": {"every": steps},
        "output": {"dir": str(out / path.stem)},
    }
    parts = {name: getattr(read, name).model_copy(update=new) for name, new in changes.items()}
    return read.model_copy(update=parts)


def run(path: Path, steps: int, out: Path) -> tuple[bool, str]:
    """Whether the shortened recipe succeeded, and what to say of it."""
    short = out / f"{path.stem}.yaml"
    out.mkdir(parents=True, exist_ok=True)
    short.write_text(recipe.to_yaml(shortened(path, steps, out)), encoding="utf-8")
    start = time.monotonic()
    done = train(short, cwd=ROOT)
    seconds = time.monotonic() - start
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return False, "\n    ".join([f"ended with {done.returncode}", *lines[-4:]])
    told = report(out / path.stem)
    return True, f"{told['status']}, loss {told['train']['final_loss']:.3f}, {seconds:.0f} s"


def main() -> None:
    """Run those that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="of recipes; all when none is given")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "recipes")
    asked = parser.parse_args()
    paths = [
        p
        for p in sorted((ROOT / "recipes").glob("*.yaml"))
        if not asked.names or p.stem in asked.names
    ]
    failed = 0
    for path in paths:
        good, told = run(path, asked.steps, asked.out)
        failed += not good
        print(f"{path.stem:20} {told}", flush=True)
    print(f"{len(paths) - failed} of {len(paths)} recipes ran")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
