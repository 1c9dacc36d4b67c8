"""Every adapter side by side on E2E NLG: `python -m benchmarks.methods FOLDER`.

The comparison of the LoRA paper (arXiv:2106.09685, table 3) on the starter model. Each adapter gets
the same steps over the same rows; its learning rate is the best, by the loss of held-out rows, of
the same factors on its usual rate, and beyond while the best lies at the edge. The search
runs side by side, a core for each run. Then every adapter runs at its rate, with the first seed
alone on the machine, which gives speed and memory, and with the other seeds side by side again.
What was run already is not repeated.
"""

import argparse
import json
import math
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmarks import e2e, machine
from benchmarks.methods_table import Base, Figures, plot, table
from benchmarks.train import report, train
from tunesmith import recipe
from tunesmith.adapters import base as adapters
from tunesmith.errors import RunError
from tunesmith.runs.timeline import Timeline

FACTORS = (1.0, 3.0, 1 / 3)
MOST_RUNS = 5
"""Of a search, which goes on by the same factor while the best rate is the last of a side."""
MAX_NEW_TOKENS = 64
ENDS = (0, RunError.exit_code)
"""Exit codes of runs that say something of their rate: it went well, or it diverged."""


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

    def heldout(self, adapter: str, rate: float, seed: int) -> float:
        """Train on one core, measure nothing else, and keep no weights.

        Returns:
            Loss of the held-out rows after it, nats per token; infinite where the run diverged.
        """
        folder = self.out / f"search-{adapter}-{self.steps}-{rate:.2g}-{seed}"
        evaluate: dict[str, Any] = {"tasks": [], "probes": []}
        if not self._train(folder, adapter, rate, seed, evaluate, threads=1):
            return math.inf
        told = report(folder)
        for heavy in ("checkpoints", told["artefact"]["path"]):
            shutil.rmtree(folder / heavy, ignore_errors=True)
        return told["eval_loss"]["after"]

    def run(self, adapter: str, rate: float, seed: int, threads: int) -> Figures:
        """Train with so many threads, and measure all that the table has.

        Raises:
            SystemExit: The run failed.
        """
        folder = self._folder(adapter, rate, seed)
        task = {
            "path": str(self.rows.test),
            "grader": {"type": "text_similarity", "evaluation_metric": "rouge_l"},
            "max_new_tokens": MAX_NEW_TOKENS,
        }
        if not self._train(folder, adapter, rate, seed, {"tasks": [task]}, threads):
            raise SystemExit(f"{folder.name} failed with its rate, which went well in the search")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return self._figures(folder, adapter, rate, seed)

    def base(self, trained: Figures) -> Base:
        """What the base answers, as the run of these figures measured it before its first step."""
        outputs = self._outputs(self._folder(trained.adapter, trained.rate, trained.seed), 0)
        references = self.rows.references
        return Base(e2e.bleu(outputs, references), e2e.rouge_l(outputs, references))

    def _folder(self, adapter: str, rate: float, seed: int) -> Path:
        return self.out / f"{adapter}-{self.steps}-{rate:.2g}-{seed}"

    def _train(
        self,
        folder: Path,
        adapter: str,
        rate: float,
        seed: int,
        evaluate: dict[str, Any],
        threads: int,
    ) -> bool:
        """Whether the run succeeded or failed by itself; done first unless it lies there.

        Raises:
            SystemExit: It ended in another way.
        """
        if _exit_code(folder) not in ENDS:
            path = self.out / f"{folder.name}.yaml"
            path.write_text(recipe.to_yaml(self._recipe(folder, adapter, rate, seed, evaluate)))
            done = train(path, threads)
            if _exit_code(folder) not in ENDS:
                raise SystemExit(f"{folder.name}: ended with {done.returncode}\n{done.stderr}")
        return _exit_code(folder) == 0

    def _recipe(
        self, folder: Path, adapter: str, rate: float, seed: int, evaluate: dict[str, Any]
    ) -> recipe.Recipe:
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
                "evaluate": evaluate,
                "checkpoint": {"every": self.steps},
                "output": {"dir": str(folder)},
            }
        )

    def _figures(self, folder: Path, adapter: str, rate: float, seed: int) -> Figures:
        told = report(folder)
        outputs = self._outputs(folder, told["checkpoint"]["best_step"])
        artefact = folder / told["artefact"]["path"]
        weights = [path.stat().st_size for path in artefact.rglob("*.safetensors")]
        return Figures(
            adapter,
            rate,
            seed,
            told["adapter"]["trainable_parameters"],
            told["adapter"]["share"],
            told["eval_loss"]["after"],
            e2e.bleu(outputs, self.rows.references),
            e2e.rouge_l(outputs, self.rows.references),
            told["forgetting"]["kl"],
            told["train"]["tokens_per_second"],
            told["train"]["peak_memory_gib"],
            sum(weights) / 1e6,
        )

    def _outputs(self, folder: Path, step: int) -> list[str]:
        details = json.loads((folder / "evaluations" / f"step-{step}.json").read_text())
        return details["tasks"][0]["outputs"]


def _exit_code(folder: Path) -> int | None:
    """How the run ended; None where it has not."""
    events = folder / "events.jsonl"
    ended = Timeline.read(events).finished if events.is_file() else []
    return ended[-1]["exit_code"] if ended else None


def search(lab: Lab, adapter: str, seed: int) -> dict[float, float]:
    """Held-out loss by learning rate: of the factors, and beyond while the best is at the edge."""
    usual = adapters.load(adapter).LEARNING_RATE
    tried = {usual * factor: lab.heldout(adapter, usual * factor, seed) for factor in FACTORS}
    while len(tried) < MOST_RUNS:
        best = min(tried, key=tried.__getitem__)
        if best not in (min(tried), max(tried)):
            break
        rate = best * 3 if best == max(tried) else best / 3
        tried[rate] = lab.heldout(adapter, rate, seed)
    return tried


def with_defaults() -> list[str]:
    """The adapters that need no key but their name; `peft` stands for any further kind."""
    found = []
    for name in (name for name in adapters.names() if name != "peft"):
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
    first, *others = asked.seeds
    rates = _searched(lab, asked.adapters, first)
    best = {name: min(losses, key=losses.__getitem__) for name, losses in rates.items()}
    cores = machine.num_cores()
    found = {name: [lab.run(name, rate, first, cores)] for name, rate in best.items()}
    with ThreadPoolExecutor(cores) as pool:
        wanted = [(name, rate, seed, 1) for name, rate in best.items() for seed in others]
        for run in pool.map(lambda one: lab.run(*one), wanted):
            found[run.adapter].append(run)
    base = lab.base(found[asked.adapters[0]][0])
    told = {"steps": asked.steps, "test_rows": asked.rows, "rates": rates}
    _leave(asked.out, base, found, told)
    print(asked.out.with_suffix(".md").read_text())


def _searched(lab: Lab, names: Sequence[str], seed: int) -> dict[str, dict[float, float]]:
    """The search of every adapter, as many at a time as there are cores."""
    with ThreadPoolExecutor(machine.num_cores()) as pool:
        rates = {}
        tried = pool.map(lambda name: search(lab, name, seed), names)
        for name, losses in zip(names, tried, strict=True):
            rates[name] = losses
            print(f"{name}: {_rates(losses)}", flush=True)
    return rates


def _rates(losses: dict[float, float]) -> str:
    return ", ".join(f"{rate:.2g} gives {losses[rate]:.3f}" for rate in sorted(losses))


def _finite(losses: dict[float, float]) -> dict[float, float | None]:
    """Null where the run diverged: JSON has no infinity."""
    return {rate: loss if math.isfinite(loss) else None for rate, loss in losses.items()}


def _leave(out: Path, base: Base, found: dict[str, list[Figures]], asked: dict[str, Any]) -> None:
    told: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": machine.describe(machine.num_cores()),
        **asked,
        "rates": {name: _finite(losses) for name, losses in asked["rates"].items()},
        "base": asdict(base),
        "runs": [asdict(run) for runs in found.values() for run in runs],
    }
    out.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(table(base, found), encoding="utf-8")
    plot(base, found, out.with_suffix(".png"))


if __name__ == "__main__":
    main()
