"""What each preference method does to held-out pairs: margin, accuracy, log-probabilities.

    python -m benchmarks.preference_table ../shared/data [--steps 100] [--pairs 4] [--limit 256]

Trains the starter model by LoRA with every method on the pairs of each data set found in the folder
(`llms_from_scratch`, `llamafactory_demo`, `hh_rlhf`), the same rows in the same order, and reads
what the runs' own reports say of held-out pairs before and after, with paired 95 % intervals. KTO
reads the pairs as two verdicts each. Rows longer than `--limit` are left out. The result is
`results/preferences.json` and, for people, `results/preferences.md`.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import torch

from benchmarks.launch import turn
from benchmarks.machine import describe
from tunesmith.data.reading import read_file
from tunesmith.data.row import ignore

METHODS = ("dpo", "ipo", "kto", "orpo", "simpo", "cpo")
FILES = {
    "llms_from_scratch": "instruction-data-with-preference.json",
    "llamafactory_demo": "dpo_en_demo.json",
    "hh_rlhf": "test.jsonl.gz",
}
RESULTS = Path(__file__).parent / "results" / "preferences.json"


@dataclass(frozen=True, slots=True)
class Result:
    """One run.

    Attributes:
        data: Name of the data set.
        method: Of the run.
        steps: Optimizer steps.
        pairs: Rows of a step.
        loss: Held-out loss of the method, before, after and interval of the change.
        figures: As `heldout_figures` of the report.
        seconds: Of training.
        tokens_per_second: Of training.
        peak_memory_gib: Of the process.
    """

    data: str
    method: str
    steps: int
    pairs: int
    loss: dict[str, Any]
    figures: list[dict[str, Any]]
    seconds: float
    tokens_per_second: float
    peak_memory_gib: float


def main() -> None:
    """Run every method on every data set and write the table."""
    arguments = _arguments()
    results = []
    with tempfile.TemporaryDirectory() as temp:
        for name in arguments.data:
            files = _split(name, Path(temp) / name, arguments)
            for method in arguments.methods:
                recipe = _recipe(method, files, Path(temp) / f"{name}-{method}", arguments)
                results.append(_run(name, recipe, arguments))
                print(*_rows(results[-1]), sep="\n", flush=True)
    _write(results, arguments.output)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="the shared data")
    parser.add_argument("--data", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=4, help="rows of a step")
    parser.add_argument(
        "--limit", type=int, default=256, help="most tokens of an answer with its prompt"
    )
    parser.add_argument("--heldout", type=int, default=100, help="pairs that are held out")
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate, of all methods")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--lock", type=Path, help="a file whose lock is held during each run")
    return parser.parse_args()


def _split(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """Pairs in an order of their own, the first ones held out; as many more as are trained on.

    The model is asked about every row before it is trained, so rows beyond these would cost time.
    """
    path = arguments.folder / name / FILES[name]
    folder.mkdir(parents=True)
    whole = folder / path.name.removesuffix(".gz")
    stored = path.read_bytes()
    whole.write_bytes(gzip.decompress(stored) if path.suffix == ".gz" else stored)
    rows = [row.raw for row in read_file(whole, "preference", ignore, {"preference"})]
    Random(0).shuffle(rows)
    heldout, needed = arguments.heldout, arguments.steps * arguments.pairs
    parts = {"eval": rows[:heldout], "train": rows[heldout : heldout + needed]}
    for part_name, part in parts.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (folder / f"{part_name}.jsonl").write_text(lines, encoding="utf-8")
    return {part_name: str(folder / f"{part_name}.jsonl") for part_name in parts}


def _recipe(
    method: str, files: dict[str, str], folder: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    return {
        "model": {"base": "starter"},
        "data": {**files, "max_tokens": arguments.limit, "overlong": "drop"},
        "adapter": {"name": "lora", "rank": 16},
        "method": {"name": method},
        "train": {
            "steps": arguments.steps,
            "batch_rows": arguments.pairs,
            "learning_rate": arguments.rate,
            "precision": "bf16",
        },
        "evaluate": {"probes": []},
        "checkpoint": {"every": arguments.steps},
        "output": {"dir": str(folder)},
    }


def _run(name: str, recipe: dict[str, Any], arguments: argparse.Namespace) -> Result:
    folder = Path(recipe["output"]["dir"])
    path = folder.with_suffix(".yaml")
    path.write_text(json.dumps(recipe), encoding="utf-8")
    command = [sys.executable, "-m", "tunesmith.cli.main", "train", str(path), "--json"]
    with turn(arguments.lock):
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return Result(
        name,
        recipe["method"]["name"],
        arguments.steps,
        arguments.pairs,
        report["eval_loss"],
        report["heldout_figures"],
        report["train"]["seconds"],
        report["train"]["tokens_per_second"],
        report["train"]["peak_memory_gib"],
    )


def _rows(result: Result) -> Iterator[str]:
    """Lines of a Markdown table, one a figure."""
    for each in ({"name": "loss", "n": "", **result.loss}, *result.figures):
        low, high = each["interval"]
        yield (
            f"| {result.data} | {result.method} | {each['name']} | {each['before']:.3f} | "
            f"{each['after']:.3f} | {each['after'] - each['before']:+.3f} | "
            f"{low:+.3f} to {high:+.3f} |"
        )


def _write(results: list[Result], path: Path) -> None:
    """The runs as JSON, and beside them the table."""
    found = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(torch.get_num_threads()),
        "runs": [asdict(result) for result in results],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    head = "| data | method | figure | before | after | change | 95 % interval |"
    lines = [head, "|" + "---|" * 7, *(line for result in results for line in _rows(result))]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
