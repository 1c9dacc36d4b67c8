"""LoRA over a base as it is, in int8 and in NF4: held-out loss, speed and memory, in one table.

    python -m benchmarks.quantize [--alpaca alpaca_en_demo.json] [--steps 40] [--repeats 2]

Trains the same rows in the same order over each base, each in a process of its own, the order of
the bases turning from repeat to repeat; the seed of a repeat is its number. Held-out loss is over
the base that was trained over, and beside it over the base as published, which is what the adapter
gives to a program that knows no quantised base. The gate: within 0.5 % of a base as it is, which
is computed in bf16 where the processor multiplies that, and else in fp32.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from benchmarks.launch import turn
from benchmarks.machine import describe
from benchmarks.quantize_run import Result

KINDS = ("none", "int8", "nf4")
GATE = 0.005
RESULTS = Path(__file__).parent / "results" / "quantize.json"
TICKETS = Path("examples/tickets")
RATES = {"tickets": 1e-3, "alpaca": 2e-4}
"""That of the quickstart, and the default of LoRA."""
HELDOUT = 100
"""Held-out rows of each task."""


def main() -> None:
    """Run every task over every base and print the table."""
    arguments = _arguments()
    results = []
    with tempfile.TemporaryDirectory() as temp:
        tasks = {"tickets": _tickets(Path(temp))}
        if arguments.alpaca:
            tasks["alpaca"] = _alpaca(arguments.alpaca, Path(temp))
        for repeat in range(arguments.repeats):
            for task, files in tasks.items():
                job = {"task": task, "repeat": repeat, "steps": arguments.steps, **files}
                first = repeat % len(arguments.kinds)
                for kind in arguments.kinds[first:] + arguments.kinds[:first]:
                    results.append(_child({**job, "kind": kind}, arguments.lock))
                    print(_line(results[-1]), flush=True)
    _report(results, arguments.steps)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--alpaca", type=Path, help="a JSON list of Alpaca rows: a second task")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="with none")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--lock", type=Path, help="a file whose lock is held during each run")
    return parser.parse_args()


def _tickets(temp: Path) -> dict[str, str]:
    """The training rows of the quickstart, and the first of its held-out rows."""
    lines = (TICKETS / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:HELDOUT]
    (temp / "tickets.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"train": str(TICKETS / "train.jsonl"), "eval": str(temp / "tickets.jsonl")}


def _alpaca(path: Path, temp: Path) -> dict[str, str]:
    """The last rows of the file are held out."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    files = {"train": rows[:-HELDOUT], "eval": rows[-HELDOUT:]}
    for name, part in files.items():
        (temp / f"alpaca-{name}.json").write_text(json.dumps(part), encoding="utf-8")
    return {name: str(temp / f"alpaca-{name}.json") for name in files}


def _child(job: dict[str, Any], lock: Path | None) -> Result:
    job = {**job, "base": "starter", "learning_rate": RATES[job["task"]]}
    command = [sys.executable, "-m", "benchmarks.quantize_run", json.dumps(job)]
    with turn(lock):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def _line(r: Result) -> str:
    return (
        f"{r.task:8} {r.kind:5} repeat {r.repeat}  loss {r.before:.4f} -> {r.after:.4f} "
        f"(wide base {r.after_wide:.4f})  {r.tokens_per_second:6.0f} tokens/s  "
        f"{r.weight_mb:5.0f} MB  peak {r.peak_gib:.2f} GiB"
    )


def _report(results: list[Result], steps: int) -> None:
    rows = [_summary(results, task, kind) for task in RATES for kind in KINDS]
    rows = [row for row in rows if row]
    print(
        f"\n{'task':8} {'base':5} {'loss':>8} {'to none':>8} {'wide':>8} {'tokens/s':>9} ratio"
        f" {'weights':>8} {'peak':>9}"
    )
    for row in rows:
        print(
            f"{row['task']:8} {row['kind']:5} {row['loss']:8.4f} {row['loss_change']:+8.2%} "
            f"{row['wide_change']:+8.2%} {row['tokens_per_second']:9.0f} {row['ratio']:5.2f}"
            f" {row['weight_mb']:5.0f} MB {row['peak_gib']:5.2f} GiB"
            f"{'' if row['within_gate'] else '  over the gate'}"
        )
    found = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(torch.get_num_threads()),
        "torch": torch.__version__,
        "steps": steps,
        "gate": GATE,
        "summary": rows,
        "runs": [asdict(result) for result in results],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def _summary(results: list[Result], task: str, kind: str) -> dict[str, Any] | None:
    """One row of the table; what is compared is paired by repeat."""
    plain = {r.repeat: r for r in results if (r.task, r.kind) == (task, "none")}
    own = [r for r in results if (r.task, r.kind) == (task, kind)]
    if not own:
        return None
    changes = [r.after / plain[r.repeat].after - 1 for r in own]
    speeds = [r.tokens_per_second / plain[r.repeat].tokens_per_second for r in own]
    return {
        "task": task,
        "kind": kind,
        "loss": mean(r.after for r in own),
        "loss_change": mean(changes),
        "loss_changes": changes,
        "within_gate": mean(changes) <= GATE,
        "wide_change": mean(r.after_wide / plain[r.repeat].after - 1 for r in own),
        "tokens_per_second": median(r.tokens_per_second for r in own),
        "ratio": median(speeds),
        "ratios": speeds,
        "weight_mb": own[0].weight_mb,
        "peak_gib": max(r.peak_gib for r in own),
    }


if __name__ == "__main__":
    main()
