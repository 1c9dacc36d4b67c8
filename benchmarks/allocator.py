"""Memory and speed of ragged steps under several settings of glibc's allocator.

Each setting runs in a process of its own, in turn. Prints tokens a second, what is resident after
the first and the last step, the peak, and the processor time that went to the system:

    python -m benchmarks.allocator 40 recipes/quickstart.yaml train.batch_rows=8
"""

import json
import os
import resource
import subprocess
import sys
from contextlib import closing
from time import perf_counter

SETTINGS: dict[str, tuple[dict[str, int], dict[str, str]]] = {
    "as installed": ({}, {}),
    "mmap from 1 MiB": ({"-3": 1 << 20}, {}),
    "mmap from 1 MiB, huge pages": ({"-3": 1 << 20}, {"THP_MEM_ALLOC_ENABLE": "1"}),
    "mmap from 4 MiB": ({"-3": 1 << 22}, {}),
    "mmap from 32 MiB, no trim": ({"-3": 1 << 25, "-1": 2**31 - 1, "-2": 1 << 28}, {}),
    "huge pages": ({}, {"THP_MEM_ALLOC_ENABLE": "1"}),
}
"""By name, arguments of mallopt and variables of the environment."""


def main() -> None:
    """Run every setting and print one line each."""
    steps, recipe = sys.argv[1], sys.argv[2:]
    for name, (options, variables) in SETTINGS.items():
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.allocator", "--one"]
        # A variable of the user's keeps Tunesmith's own settings away.
        left = {**os.environ, "MALLOC_CHECK_": "0", **variables}
        done = subprocess.run(
            [*command, json.dumps(options), steps, *recipe],
            env=left,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        print(f"{name:30} {done.stdout.strip()}", flush=True)


def one(options: dict[str, int], steps: int, recipe_path: str, overrides: list[str]) -> str:
    """Steps of a recipe in this process."""
    import ctypes

    for option, value in options.items():
        if not ctypes.CDLL(None).mallopt(int(option), value):
            raise ValueError(f"mallopt refuses {option}: {value}")
    from tunesmith.api import build
    from tunesmith.api.resolve import device, resolve
    from tunesmith.engine.memory import peak_gib, resident_gib
    from tunesmith.recipe import read

    recipe = resolve(read(recipe_path, overrides))
    build.seed_everything(0)
    base = build.build_base(recipe)
    rows = build.build_rows(recipe, base)
    trial = build.build_trial(recipe, build.build_learner(recipe, base))
    trial.model.train()
    tokens, resident, start = 0, [], perf_counter()
    with closing(build.build_loader(recipe, rows)) as loader:
        for step in range(steps):
            for batch in loader.step(step):
                trial.forward_backward(batch)
                tokens += batch.num_tokens
            trial.step()
            resident.append(resident_gib(device()))
    seconds = perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    return "  ".join(
        (
            f"{tokens / seconds:6.0f} tokens/s",
            f"resident {resident[0]:.2f} to {resident[-1]:.2f} GiB",
            f"peak {peak_gib(device()):.2f} GiB",
            f"user {used.ru_utime:.0f} s, system {used.ru_stime:.1f} s",
        )
    )


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        print(one(json.loads(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:]))
    else:
        main()
