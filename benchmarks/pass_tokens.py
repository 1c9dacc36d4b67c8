"""How many tokens a forward pass should have on this machine: one step, laid out in several ways.

Each size takes its turn on each step, so that whatever else the machine does meets all of them.
Prints the seconds of a step for each size, relative to the quickest:

    python -m benchmarks.pass_tokens recipes/quickstart.yaml train.batch_rows=8
"""

import sys
from contextlib import closing
from statistics import median
from time import perf_counter, process_time

import torch

from tunesmith.api import batches, build
from tunesmith.api.batches import build_loader
from tunesmith.api.learner import build_base, build_learner
from tunesmith.api.resolve import resolve
from tunesmith.api.rows import build_rows
from tunesmith.recipe import read

SIZES = (512, 1024, 1 << 20)
STEPS = 4


def main() -> None:
    """Measure and print."""
    recipe = resolve(read(sys.argv[1], sys.argv[2:]))
    build.seed_everything(0)
    base = build_base(recipe)
    rows = build_rows(recipe, base)
    learner = build_learner(recipe, base)
    trial = build.build_trial(recipe, learner)
    learner.attached.model.train()
    found: dict[int, list[tuple[float, float]]] = {size: [] for size in SIZES}
    for step in range(-1, STEPS):  # The first one warms caches up.
        for size in SIZES:
            batches.best_tokens = lambda recipe, size=size: size
            with closing(build_loader(recipe, rows)) as loader:
                passes = loader.step(max(step, 0))
            wall, cpu = perf_counter(), process_time()
            for batch in passes:
                trial.forward_backward(batch)
            trial.step()
            if step >= 0:
                spent = perf_counter() - wall, process_time() - cpu
                tokens = sum(batch.num_tokens for batch in passes)
                found[size].append((spent[0] / tokens, spent[1] / tokens))
                print(f"step {step}, {size}: {1e3 * found[size][-1][1]:.3f} ms a token", flush=True)
    _report(found)


def _report(found: dict[int, list[tuple[float, float]]]) -> None:
    """Ratios are paired by step: each size against the largest on the same rows."""
    print(f"{torch.get_num_threads()} threads; a token in wall and processor time, and the ratio")
    for size, each in found.items():
        whole = found[SIZES[-1]]
        wall, cpu = (median(one[i] for one in each) for i in (0, 1))
        ratios = [median(a[i] / b[i] for a, b in zip(each, whole, strict=True)) for i in (0, 1)]
        print(f"{size:8} {1e3 * wall:.2f} ms {1e3 * cpu:.2f} ms  {ratios[0]:.3f} {ratios[1]:.3f}")


if __name__ == "__main__":
    main()
