"""Every adapter side by side on E2E NLG: `python -m benchmarks.methods FOLDER`.

The comparison of the LoRA paper (arXiv:2106.09685, table 3) on the starter model. Each adapter gets
the same steps over the same rows; its learning rate is the best, by the loss of held-out rows, of
the same factors on its usual rate, a further one tried where the best lies at the edge; that rate
is run with the other seeds too. Runs that are there already are not repeated.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any

from pydantic import ValidationError

from benchmarks import e2e, machine
from benchmarks.methods_table import Figures, plot, table
from tunesmith import recipe
from tunesmith.adapters import base as adapters

FACTORS = (1 / 3, 1.0, 3.0)
EDGES = (1 / 9, 9.0)
"""Tried where the smallest or the largest of FACTORS is the best."""
MAX_NEW_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Lab:
    """What all runs share.

    Attributes:
        rows: Of the task.
        out: Folder of the runs.
        steps: Of each run, of eight rows.
    """

    rows: e2e.Rows
    out: Path
    steps: int

    def run(self, adapter: str, rate: float, seed: int) -> Figures:
        """Train with these, unless that was done, and read what came out.

        Raises:
            SystemExit: The run failed; its error was printed.
        """
        folder = self.out / f"{adapter}-{self.steps}-{rate:.2g}-{seed}"
        report = folder / "report.json"
        if not report.is_file() or json.loads(report.read_text())["status"] != "succeeded":
            path = self.out / f"{folder.name}.yaml"
            path.write_text(recipe.to_yaml(self._recipe(adapter, rate, seed, folder)))
            command = [sys.executable, "-m", "tunesmith.cli.main", "train", str(path), "--json"]
            done = subprocess.run(command, stdout=subprocess.DEVNULL)
            if done.returncode:
                raise SystemExit(f"{folder.name}: the run ended with {done.returncode}")
        return self._figures(folder, adapter, rate, seed)

    def _recipe(self, adapter: str, rate: float, seed: int, folder: Path) -> recipe.Recipe:
        task = {
            "path": str(self.rows.test),
            "grader": {"type": "text_similarity", "evaluation_metric": "rouge_l"},
            "max_new_tokens": MAX_NEW_TOKENS,
        }
        return recipe.from_dict(
            {
                "model": {"base": "starter"},
                "data": {"train": str(self.rows.train), "eval": str(self.rows.heldout)},
                "adapter": {"name": adapter},
                "train": {
                    "steps": self.steps,
                    "learning_rate": rate,
                    "schedule": "linear",
                    "seed": seed,
                },
                "evaluate": {"tasks": [task]},
                "output": {"dir": str(folder)},
            }
        )

    def _figures(self, folder: Path, adapter: str, rate: float, seed: int) -> Figures:
        report = json.loads((folder / "report.json").read_text())
        details = folder / "evaluations" / f"step-{report['checkpoint']['best_step']}.json"
        outputs = json.loads(details.read_text())["tasks"][0]["outputs"]
        artefact = folder / report["artefact"]["path"]
        weights = [path.stat().st_size for path in artefact.rglob("*.safetensors")]
        return Figures(
            adapter,
            rate,
            seed,
            report["adapter"]["trainable_parameters"],
            report["adapter"]["share"],
            report["eval_loss"]["after"],
            e2e.bleu(outputs, self.rows.references),
            e2e.rouge_l(outputs, self.rows.references),
            report["forgetting"]["kl"],
            report["train"]["tokens_per_second"],
            report["train"]["peak_memory_gib"],
            sum(weights) / 1e6,
        )


def compare(lab: Lab, adapter: str, seeds: Sequence[int]) -> list[Figures]:
    """All runs of one adapter: the rates with the first seed, the best rate with the others."""
    usual = adapters.load(adapter).LEARNING_RATE
    tried = {factor: lab.run(adapter, usual * factor, seeds[0]) for factor in FACTORS}
    best = _best(tried)
    for edge, side in zip(EDGES, (FACTORS[0], FACTORS[-1]), strict=True):
        if best == side:
            tried[edge] = lab.run(adapter, usual * edge, seeds[0])
    rate = usual * _best(tried)
    return [*tried.values(), *(lab.run(adapter, rate, seed) for seed in seeds[1:])]


def _best(tried: dict[float, Figures]) -> float:
    return min(tried, key=lambda factor: tried[factor].heldout)


def chosen(runs: Sequence[Figures]) -> list[Figures]:
    """The runs at the rate that was best with the first seed."""
    first = [run for run in runs if run.seed == runs[0].seed]
    rate = min(first, key=lambda run: run.heldout).rate
    return [run for run in runs if run.rate == rate]


def with_defaults() -> list[str]:
    """The adapters that need no key but their name."""
    found = []
    for name in adapters.names():
        try:
            adapters.load(name).Config()
        except ValidationError:
            continue
        found.append(name)
    return found


def main() -> None:
    """Run, and leave `methods.json`, `methods.md` and `methods.png` in the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the cleaned E2E NLG files")
    parser.add_argument("--adapters", nargs="+", default=with_defaults())
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rows", type=int, default=64, help="test rows")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/methods.json"))
    asked = parser.parse_args()
    lab = Lab(e2e.prepare(asked.folder, asked.runs, asked.rows), asked.runs, asked.steps)
    found: dict[str, list[Figures]] = {}
    for adapter in asked.adapters:
        found[adapter] = compare(lab, adapter, asked.seeds)
        _leave(asked.out, found, asked.steps, asked.rows)
        print(f"{adapter}: BLEU {mean(run.bleu for run in chosen(found[adapter])):.1f}", flush=True)


def _leave(out: Path, found: dict[str, list[Figures]], steps: int, rows: int) -> None:
    told: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": machine.describe(machine.num_cores()),
        "steps": steps,
        "test_rows": rows,
        "runs": [asdict(run) for runs in found.values() for run in runs],
    }
    out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    best = {name: chosen(runs) for name, runs in found.items()}
    out.with_suffix(".md").write_text(table(best), encoding="utf-8")
    plot(best, out.with_suffix(".png"))


if __name__ == "__main__":
    main()
