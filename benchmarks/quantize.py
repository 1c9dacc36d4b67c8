"""LoRA over a base in bf16, int8 and NF4: held-out loss, speed and memory, in one table.

    python -m benchmarks.quantize [--alpaca alpaca_en_demo.json] [--steps 40] [--repeats 2]

Trains the same rows in the same order over each base, each in a process of its own, the order of
the bases turning from repeat to repeat; the seed of a repeat is its number. Held-out loss is over
the base that was trained over, and beside it over the base as published, which is what the adapter
gives to a program that knows no quantised base. The gate is issue 3's: within 0.5 % of bf16.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from tunesmith.api import build
from tunesmith.api.measures import build_heldout
from tunesmith.api.resolve import device, resolve
from tunesmith.engine import loop
from tunesmith.engine.memory import peak_gib
from tunesmith.evaluate.heldout import heldout_loss
from tunesmith.models.quantize import num_bytes
from tunesmith.recipe import Recipe, from_dict
from tunesmith.runs.events import Event, Step

KINDS = ("none", "int8", "nf4")
GATE = 0.005
RESULTS = Path(__file__).parent / "results" / "quantize.json"
TICKETS = Path("examples/tickets")
RATES = {"tickets": 1e-3, "alpaca": 2e-4}
"""That of the quickstart, and the default of LoRA."""
HELDOUT = 100
"""Held-out rows of each task."""


@dataclass(frozen=True)
class Result:
    """What one run over one base gave.

    Attributes:
        task: Which rows.
        kind: How the base was held.
        repeat: Number and seed.
        before: Held-out loss before training, nats per trained token.
        after: The same after training.
        after_wide: The same with the adapter over the base as published.
        tokens_per_second: Over the steps after the first.
        weight_mb: Of all frozen weights, in MB of 10^6 bytes.
        peak_gib: Of the process, until the end of training.
        losses: Of each step.
    """

    task: str
    kind: str
    repeat: int
    before: float
    after: float
    after_wide: float
    tokens_per_second: float
    weight_mb: float
    peak_gib: float
    losses: list[float]


def main() -> None:
    """Run every task over every base and print the table."""
    arguments = _arguments()
    if arguments.job:
        print(json.dumps(asdict(_measure(json.loads(arguments.job)))))
        return
    results = []
    with tempfile.TemporaryDirectory() as temp:
        tasks = {"tickets": _tickets(Path(temp))}
        if arguments.alpaca:
            tasks["alpaca"] = _alpaca(arguments.alpaca, Path(temp))
        for repeat in range(arguments.repeats):
            for task, files in tasks.items():
                turned = KINDS[repeat % 3 :] + KINDS[: repeat % 3]
                for kind in turned:
                    job = {"task": task, "kind": kind, "repeat": repeat, "steps": arguments.steps}
                    results.append(_child(job | files))
                    print(_line(results[-1]), flush=True)
    _report(results, arguments.steps)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--alpaca", type=Path, help="a JSON list of Alpaca rows: a second task")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--job", help=argparse.SUPPRESS)
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


def _child(job: dict[str, Any]) -> Result:
    command = [sys.executable, "-m", "benchmarks.quantize", "--job", json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def _measure(job: dict[str, Any]) -> Result:
    """Train over one base and measure; in a process of its own."""
    recipe = _recipe(job)
    build.seed_everything(recipe.train.seed)
    base = build.build_base(recipe)
    weight_mb = num_bytes(base.model) / 1e6
    rows = build.build_rows(recipe, base)
    learner = build.build_learner(recipe, base)
    heldout = build_heldout(recipe, rows)
    before = _loss(learner, heldout)
    steps: list[Step] = []
    loop.train(_parts(recipe, rows, learner, steps))
    peak, after = peak_gib(device()), _loss(learner, heldout)
    return Result(
        task=job["task"],
        kind=job["kind"],
        repeat=job["repeat"],
        before=before,
        after=after,
        after_wide=after if job["kind"] == "none" else _over_wide(recipe, learner, heldout),
        tokens_per_second=sum(s.tokens for s in steps[1:]) / sum(s.seconds for s in steps[1:]),
        weight_mb=weight_mb,
        peak_gib=peak,
        losses=[step.loss for step in steps],
    )


def _recipe(job: dict[str, Any]) -> Recipe:
    return resolve(
        from_dict(
            {
                "model": {"base": "starter", "quantize": job["kind"]},
                "data": {
                    "train": job["train"],
                    "eval": job["eval"],
                    "max_tokens": 1024,
                    "overlong": "drop",
                },
                "adapter": {"name": "lora", "rank": 16},
                "train": {
                    "steps": job["steps"],
                    "learning_rate": RATES[job["task"]],
                    "batch_rows": 8,
                    "seed": job["repeat"],
                },
            }
        )
    )


def _parts(recipe: Recipe, rows: build.Rows, learner: build.Learner, steps: list) -> loop.Parts:
    """The loop of a real run, without measures and checkpoints on the way."""
    loader = build.build_loader(recipe, rows)

    def notice(event: Event) -> None:
        if isinstance(event, Step):
            steps.append(event)

    return loop.Parts(
        model=learner.attached.model,
        loss=build.build_loss(recipe, learner),
        loader=loader,
        parameters=list(learner.attached.trained.values()),
        optimizer=build.build_optimizer(recipe, learner),
        learning_rate=build.build_rate(recipe, loader.num_steps),
        clip=recipe.train.clip,
        seed=recipe.train.seed,
        device=device(),
        notice=notice,
        evaluate=lambda step: False,
        save=lambda step, must: None,
        stop=lambda: False,
    )


def _loss(learner: build.Learner, heldout: list) -> float:
    learner.policy.model.eval()
    with torch.no_grad():
        return heldout_loss(learner.policy.token_nll, heldout).loss


def _over_wide(recipe: Recipe, trained: build.Learner, heldout: list) -> float:
    """Held-out loss of the trained adapter over the base as published."""
    wide = recipe.model_copy(update={"model": recipe.model.model_copy(update={"quantize": "none"})})
    learner = build.build_learner(wide, build.build_base(wide))
    with torch.no_grad():
        for name, parameter in trained.attached.trained.items():
            learner.attached.trained[name].copy_(parameter)
    return _loss(learner, heldout)


def _line(r: Result) -> str:
    return (
        f"{r.task:8} {r.kind:5} repeat {r.repeat}  loss {r.before:.4f} -> {r.after:.4f} "
        f"(wide base {r.after_wide:.4f})  {r.tokens_per_second:6.0f} tokens/s  "
        f"{r.weight_mb:5.0f} MB  peak {r.peak_gib:.2f} GiB"
    )


def _report(results: list[Result], steps: int) -> None:
    rows = [_summary(results, task, kind) for task in RATES for kind in KINDS]
    rows = [row for row in rows if row]
    print(f"\n{'task':8} {'base':5} {'loss':>8} {'to bf16':>8} {'wide':>8} {'tokens/s':>9} ratio")
    for row in rows:
        print(
            f"{row['task']:8} {row['kind']:5} {row['loss']:8.4f} {row['loss_change']:+8.2%} "
            f"{row['wide_change']:+8.2%} {row['tokens_per_second']:9.0f} {row['ratio']:5.2f}"
            f"{'' if row['within_gate'] else '  over the gate'}"
        )
    found = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
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
