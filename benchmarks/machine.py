"""What machine this is, and how fast it could be at most."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cases import RANK, WARM_UP_STEPS, Case
from benchmarks.flops import Shapes, operations
from benchmarks.launch import Machine, turn

ROOT = Path(__file__).parents[1]


def describe(threads: int) -> dict[str, Any]:
    """Processor, cores, memory and system."""
    return {
        "processor": _processor(),
        "cores": num_cores(),
        "threads": threads,
        "memory_gib": psutil.virtual_memory().total / (1 << 30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def num_cores() -> int:
    """Physical cores: a thread on each is what products of matrices want."""
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def measure_limit(shapes: Shapes, how: Machine) -> dict[str, float]:
    """GFLOP/s by number type, the best of the base's own shapes; takes some ten seconds.

    The best one and not the average stands for the machine, so that a share of the limit is never
    flattered by a shape that happens to be slow.
    """
    linears = sorted({*shapes.linears, (shapes.vocabulary, shapes.width)})
    command = [sys.executable, "-m", "benchmarks.limit", json.dumps(linears)]
    variables = {**os.environ, "OMP_NUM_THREADS": str(how.threads)}
    with turn(how.lock):
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, env=variables
        )
    rates = json.loads(done.stdout.strip().splitlines()[-1])["gflops"]
    return {name: max(of_shapes.values()) for name, of_shapes in rates.items()}


def facts(
    case: Case,
    shapes: Shapes,
    rows: list[dict[str, Any]],
    limits: list[dict[str, float]],
    repeats: int,
) -> dict[str, Any]:
    """What the table says about a case besides its sides.

    Args:
        case: The case.
        shapes: Of its base.
        rows: The lines of its file.
        limits: What `measure_limit` found, repeat by repeat; the largest counts.
        repeats: How often each side runs.
    """
    timed = rows[WARM_UP_STEPS * case.rows_per_step :]
    lengths = [pair for row in timed for pair in lengths_of(row)]
    tokens = sum(tokens for tokens, _ in lengths)
    steps = len(timed) // case.rows_per_step
    found = {
        "rows_per_step": case.rows_per_step,
        "tokens_per_step": tokens / steps,
        "share_trained": sum(trained for _, trained in lengths) / tokens,
        "timed_steps": steps,
        "repeats": repeats,
    }
    if case.method != "sft" or not limits:
        return found
    per_token = operations(shapes, lengths, case.adapter, RANK) / tokens
    best = {name: max(limit[name] for limit in limits) for name in limits[0]}
    kind = max(best, key=best.__getitem__)
    return found | {
        "mflop_per_token": per_token / 1e6,
        "limit_gflops": best[kind],
        "limit_type": kind,
        "limit_tokens_per_second": best[kind] * 1e9 / per_token,
    }


def lengths_of(row: dict[str, Any]) -> list[tuple[int, int]]:
    """(tokens, trained tokens) of a line; two of them for a preference pair."""
    if "input_ids" in row:
        return [(len(row["input_ids"]), sum(row["trained"]))]
    return list(zip(row["tokens"], row["num_trained"], strict=True))


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
