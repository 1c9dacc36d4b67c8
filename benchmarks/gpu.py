"""Training speed on one NVIDIA GPU: 8B shapes with random weights, beside TRL where it is there.

    python -m benchmarks.gpu                    all cases; about a minute each
    python -m benchmarks.gpu --tiny             the same code with a tiny shape, on any machine
    python -m benchmarks.gpu --ways lora fp8 --lengths 4096 --tokens 32768

Every case runs in a process of its own, so that one that does not fit leaves the next alone.
Prints a table and writes it with versions and date to benchmarks/results/gpu.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig

from benchmarks.flops import operations, read_shapes
from benchmarks.gpu_cases import RANK, SHAPES, SIDES, WAYS, Case, cases

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gpu.json"
NO_GPU = """python -m benchmarks.gpu: got a machine without a CUDA device; expected an NVIDIA GPU
hint: --tiny runs the same code with a tiny shape on the processor"""
PACKAGES = ("torch", "transformers", "peft", "liger-kernel", "trl", "bitsandbytes")
SECONDS = 900
"""Longest a case may take, compilation included."""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; returns the exit code."""
    asked = _parse(arguments)
    if not asked.tiny and not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        return 2
    results = []
    for case in _cases(asked):
        command = _command(case, asked.peer_python)
        results.append({**asdict(case), **_summed_up(case, _answer(command))})
        print(json.dumps(results[-1]), file=sys.stderr)
    _with_share(results)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(_machine() | {"results": results}, indent=1) + "\n")
    Console(width=140).print(table(results))
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--tiny", action="store_true", help="a tiny shape, on any machine")
    big = [name for name in SHAPES if name != "tiny"]
    parser.add_argument("--shapes", nargs="+", choices=big, default=big)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--lengths", nargs="+", type=int, default=[2048, 4096])
    parser.add_argument("--tokens", type=int, default=16384, help="of one step")
    parser.add_argument("--steps", type=int, default=10, help="timed ones")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--peer-python", default=sys.executable, help="an environment with TRL")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def _cases(asked: argparse.Namespace) -> list[Case]:
    if asked.tiny:
        return cases(["tiny"], asked.ways, [32, 64], asked.sides, 128, 2)
    return cases(asked.shapes, asked.ways, asked.lengths, asked.sides, asked.tokens, asked.steps)


def _command(case: Case, peer_python: str) -> list[str]:
    job = json.dumps(asdict(case))
    if case.side == "tunesmith":
        return [sys.executable, "-m", "benchmarks.gpu_run", job]
    return [peer_python, str(ROOT / "benchmarks" / "gpu_trl.py"), job]


def _answer(command: list[str]) -> dict[str, Any]:
    """What a case's process says in its last line, or how it failed."""
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {SECONDS} seconds"}
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return {"failed": lines[-1] if lines else f"exit code {done.returncode}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def _summed_up(case: Case, found: dict[str, Any]) -> dict[str, Any]:
    """With tokens per second: the median over the steps, and the slowest and fastest of them."""
    if "failed" in found:
        return found
    speeds = sorted(case.tokens_per_step / seconds for seconds in found["seconds"])
    return found | {"tokens_per_second": median(speeds), "low": speeds[0], "high": speeds[-1]}


def _with_share(results: list[dict[str, Any]]) -> None:
    """Add the share of the limit: the fastest bf16 products measured beside any of the cases.

    The same limit for all, so that shares compare as speeds do; FP8 products may go beyond it.
    """
    rates = [found["products_per_second"] for found in results if "products_per_second" in found]
    for found in results:
        if rates and "tokens_per_second" in found:
            needed = operations_per_token(found["shape"], found["length"], found["way"])
            found["share"] = found["tokens_per_second"] * needed / max(rates)


def operations_per_token(shape: str, length: int, way: str) -> float:
    """What a token of an example of `length`, all of it labelled, costs at least."""
    keys = dict(SHAPES[shape])
    with tempfile.TemporaryDirectory() as folder:
        AutoConfig.for_model(keys.pop("model_type"), **keys).save_pretrained(folder)
        shapes = read_shapes(Path(folder))
    adapter = "full" if way == "full" else "lora"
    return operations(shapes, [(length, length)], adapter, RANK) / length


def table(results: list[dict[str, Any]]) -> Table:
    """One line per case; what failed says why."""
    shown = Table(title=f"{_machine()['device']}: real tokens per second, bf16 products")
    for name in ("shape", "way", "length", "side", "tokens/s", "of the limit", "peak GiB", "how"):
        shown.add_column(name, justify="right" if name in _NUMBERS else "left")
    for found in results:
        case = [found["shape"], found["way"], str(found["length"]), found["side"]]
        if "failed" in found:
            shown.add_row(*case, "", "", "", found["failed"])
            continue
        speed = f"{found['tokens_per_second']:,.0f} ({found['low']:,.0f} to {found['high']:,.0f})"
        share = f"{found['share']:.0%}" if "share" in found else ""
        peak = "" if found["peak_gib"] is None else f"{found['peak_gib']:.1f}"
        how = ", ".join(found[key] for key in ("attention", "kernels") if key in found)
        shown.add_row(*case, speed, share, peak, how)
    return shown


_NUMBERS = {"length", "tokens/s", "of the limit", "peak GiB"}


def _machine() -> dict[str, Any]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "processor"
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "cuda": torch.version.cuda,
        "versions": versions,
    }


if __name__ == "__main__":
    sys.exit(main())
