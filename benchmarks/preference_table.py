"""What each preference method does to held-out pairs: margin, accuracy, log-probabilities.

    python -m benchmarks.preference_table ../shared/data [--steps 100] [--pairs 4] [--limit 256]

Trains the starter model by LoRA with every method on the pairs of each data set found in the folder
(`llms_from_scratch`, `llamafactory_demo`, `hh_rlhf`), the same rows in the same order, and reads
what the runs' own reports say of held-out pairs before and after, with paired 95 % intervals. KTO
reads the pairs as two verdicts each. Rows longer than `--limit` are left out. Nothing of it is a
timing, so a run has one core, and as many run side by side as there are. Runs that are there are
not repeated. The result is `results/preferences.json` and, for people, `results/preferences.md`.
"""

import argparse
import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.machine import describe, num_cores
from benchmarks.train import report, train
from tunesmith.data.reading import read_file
from tunesmith.data.row import ignore

METHODS = ("dpo", "ipo", "kto", "orpo", "simpo", "cpo", "reward")
FILES = {
    "llms_from_scratch": "instruction-data-with-preference.json",
    "llamafactory_demo": "dpo_en_demo.json",
    "hh_rlhf": "test.jsonl.gz",
}
HEAD = (
    "| pairs of | method | accuracy before | after | change (95 %) | margin | log p chosen "
    "| log p rejected |\n|---|---|---:|---:|---|---|---|---|"
)
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
    """

    data: str
    method: str
    steps: int
    pairs: int
    loss: dict[str, Any]
    figures: list[dict[str, Any]]


def main() -> None:
    """Run every method on every data set and write the table."""
    arguments = _arguments()
    files = {name: _split(name, arguments.runs / name, arguments) for name in arguments.data}
    wanted = [(name, method) for name in arguments.data for method in arguments.methods]

    def run(one: tuple[str, str]) -> Result:
        name, method = one
        return _run(name, _recipe(name, method, files[name], arguments), arguments)

    with ThreadPoolExecutor(num_cores()) as pool:
        results = []
        for result in pool.map(run, wanted):
            results.append(result)
            print(_row(result), flush=True)
    _write(results, arguments)


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
    parser.add_argument("--rate", type=float, default=1e-4, help="of all methods")
    parser.add_argument("--runs", type=Path, default=Path("runs/preferences"))
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args()


def _split(name: str, folder: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """Pairs in an order of their own, the first ones held out; as many more as are trained on."""
    path = arguments.folder / name / FILES[name]
    folder.mkdir(parents=True, exist_ok=True)
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
    name: str, method: str, files: dict[str, str], arguments: argparse.Namespace
) -> dict[str, Any]:
    folder = arguments.runs / f"{name}-{method}-{arguments.steps}-{arguments.rate:.2g}"
    return {
        "model": {"base": "starter"},
        "data": {**files, "max_tokens": arguments.limit, "overlong": "drop"},
        "adapter": {"name": "lora", "rank": 16},
        "method": {"name": method},
        "train": {
            "steps": arguments.steps,
            "batch_rows": arguments.pairs,
            "learning_rate": arguments.rate,
        },
        "evaluate": {"probes": []},
        "checkpoint": {"every": arguments.steps},
        "output": {"dir": str(folder)},
    }


def _run(name: str, recipe: dict[str, Any], arguments: argparse.Namespace) -> Result:
    folder = Path(recipe["output"]["dir"])
    if not (folder / "report.json").is_file() or report(folder)["status"] != "succeeded":
        path = folder.with_name(f"{folder.name}.yaml")
        path.write_text(json.dumps(recipe), encoding="utf-8")
        done = train(path, threads=1)
        if done.returncode:
            raise SystemExit(f"{folder.name}: ended with {done.returncode}\n{done.stderr}")
    told = report(folder)
    method = recipe["method"]["name"]
    pairs = recipe["train"]["batch_rows"]
    return Result(name, method, arguments.steps, pairs, told["eval_loss"], told["heldout_figures"])


def _row(result: Result) -> str:
    """A line of the table."""
    figures = {figure["name"]: figure for figure in result.figures}
    cells = [result.data, f"`{result.method}`", *_change(figures["accuracy"], 2)]
    for name in ("margin", "chosen_log_prob", "rejected_log_prob"):
        cells.append(_change(figures[name], 2)[-1] if name in figures else "")
    return f"| {' | '.join(cells)} |"


def _change(figure: dict[str, Any], digits: int) -> list[str]:
    """Before, after, and the change with its interval."""
    before, after, (low, high) = figure["before"], figure["after"], figure["interval"]
    change = f"{after - before:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
    return [f"{before:.{digits}f}", f"{after:.{digits}f}", change]


def _write(results: list[Result], arguments: argparse.Namespace) -> None:
    """The runs as JSON, and beside them the table."""
    path = arguments.output
    found = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(1),
        "rate": arguments.rate,
        "heldout": arguments.heldout,
        "limit": arguments.limit,
        "runs": [asdict(result) for result in results],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    lines = [HEAD, *map(_row, results)]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
