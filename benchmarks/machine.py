"""What machine this is, and how fast it could be at most."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cases import RANK, WARM_UP_STEPS, Case
from benchmarks.flops import Shapes, Work, work
from benchmarks.launch import Machine, turn

ROOT = Path(__file__).parents[1]

Rates = dict[str, dict[str, float]]
"""GFLOP/s by number type, and in it by shape."""


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


def measure_limit(shapes: Shapes, how: Machine) -> Rates:
    """GFLOP/s by number type and by shape, for the base's own shapes; takes some ten seconds."""
    linears = sorted({*shapes.linears, shapes.head})
    command = [sys.executable, "-m", "benchmarks.limit", json.dumps(linears)]
    variables = {**os.environ, "OMP_NUM_THREADS": str(how.threads)}
    with turn(how.lock):
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, env=variables
        )
    return json.loads(done.stdout.strip().splitlines()[-1])["gflops"]


def limit(parts: Work, shapes: Shapes, measured: Sequence[Rates]) -> dict[str, Any]:
    """The shortest time that `parts` could take, in the number type that is fastest here.

    Args:
        parts: Operations of some rows.
        shapes: Of the base.
        measured: What `measure_limit` found, repeat by repeat; the largest rates count.

    Returns:
        `limit_type`; `limit_gflops`, the best rate of any shape; `limit_seconds`, all operations at
        that rate, so that a share of the limit is not flattered by a shape that is slow; and
        `shapes_seconds`, each product at the rate of its own shape.
    """
    best = {
        kind: {shape: max(rates[kind][shape] for rates in measured) for shape in measured[0][kind]}
        for kind in measured[0]
    }
    kind = max(best, key=lambda name: max(best[name].values()))
    rates, peak = best[kind], max(best[kind].values())
    seconds = sum(parts.linears[shape] / rates[_name(shape)] for shape in parts.linears)
    seconds += parts.head / rates[_name(shapes.head)] + parts.rest / peak
    return {
        "limit_type": kind,
        "limit_gflops": peak,
        "limit_seconds": parts.total / peak / 1e9,
        "shapes_seconds": seconds / 1e9,
    }


def facts(
    case: Case,
    shapes: Shapes,
    rows: list[dict[str, Any]],
    limits: Sequence[Rates],
    repeats: int,
) -> dict[str, Any]:
    """What the table says about a case besides its sides.

    Args:
        case: The case.
        shapes: Of its base.
        rows: The lines of its file.
        limits: What `measure_limit` found, repeat by repeat.
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
    parts = work(shapes, lengths, case.adapter, RANK)
    least = limit(parts, shapes, limits)
    return found | {
        "mflop_per_token": parts.total / tokens / 1e6,
        "limit_type": least["limit_type"],
        "limit_gflops": least["limit_gflops"],
        "limit_tokens_per_second": tokens / least["limit_seconds"],
        "shapes_tokens_per_second": tokens / least["shapes_seconds"],
    }


def lengths_of(row: dict[str, Any]) -> list[tuple[int, int]]:
    """(tokens, trained tokens) of a line; two of them for a preference pair."""
    if "input_ids" in row:
        return [(len(row["input_ids"]), sum(row["trained"]))]
    return list(zip(row["tokens"], row["num_trained"], strict=True))


def _name(shape: tuple[int, int]) -> str:
    """A shape as `benchmarks.limit` names it."""
    return f"{shape[0]}x{shape[1]}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
