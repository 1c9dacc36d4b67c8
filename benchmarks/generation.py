"""Rows answered per second: Tunesmith against `transformers.generate` as a user would call it.

The peer gets batches of 32 prompts in the order of the file, padded on the left to the longest,
greedy, with the stop tokens and the longest answer that Tunesmith gets too. Both sides use one
model in memory, of one type, in one process, and take turns. Next to wall time stands CPU time: on
a machine that is shared it is the steadier one, given a single thread. Prints one table and writes
it, with versions and machine, to benchmarks/results/generation.json; cases that were not run keep
the figures that are there.

    python -m benchmarks.generation                 # all cases, some minutes each
    python -m benchmarks.generation tickets --repeats 5
    python -m benchmarks.generation tickets-lora --adapter runs/quickstart/adapter
"""

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median
from time import perf_counter, process_time
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model

from tunesmith.engine.precision import DTYPES
from tunesmith.generate.generate import generate
from tunesmith.generate.options import GenerateOptions
from tunesmith.models import fast
from tunesmith.models.base import Base
from tunesmith.models.load import load
from tunesmith.models.resolve import resolve

BATCH_ROWS = 32
"""Of the peer; Tunesmith has its own default."""
RANK = 16
RESULTS = Path(__file__).parent / "results" / "generation.json"
TICKETS = Path("examples/tickets/heldout.jsonl")
ALPACA = Path("/work/shared/data/llamafactory_demo/alpaca_en_demo.json")


@dataclass(frozen=True)
class Case:
    """What is answered.

    Attributes:
        rows: Makes the conversations, without their answers.
        max_new_tokens: Longest answer.
        lora: Whether an adapter is attached.
    """

    rows: Callable[[], list[list[dict[str, str]]]]
    max_new_tokens: int
    lora: bool = False


def _tickets() -> list[list[dict[str, str]]]:
    return [json.loads(line)["messages"][:-1] for line in TICKETS.read_text().splitlines()]


def _alpaca() -> list[list[dict[str, str]]]:
    rows = json.loads(ALPACA.read_text())
    texts = [f"{row['instruction']}\n{row['input']}".strip() for row in rows]
    return [[{"role": "user", "content": text}] for text in texts]


CASES = {
    "tickets": Case(_tickets, 48),
    "tickets-lora": Case(_tickets, 48, lora=True),
    "alpaca": Case(_alpaca, 128),
    "alpaca-lora": Case(_alpaca, 128, lora=True),
}


def main() -> None:
    """Measure the cases that are asked for, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[[], *CASES])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", choices=DTYPES, default="bf16")
    parser.add_argument("--adapter", type=Path, help="instead of one that changes nothing yet")
    parser.add_argument("--append", action="store_true", help="to the repeats of the file")
    options = parser.parse_args()
    before = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in options.cases or CASES:
        if CASES[name].rows is _alpaca and not ALPACA.is_file():
            print(f"{name}: skipped, there is no {ALPACA}")
            continue
        key = f"{name} {options.precision}"
        before[key] = _measure(CASES[name], options, before.get(key) if options.append else None)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(before, indent=1) + "\n")
    _print(before)


def _measure(
    case: Case, options: argparse.Namespace, before: dict[str, Any] | None
) -> dict[str, Any]:
    base = load(resolve("starter", None), DTYPES[options.precision])
    model = _with_adapter(base, options.adapter) if case.lora else base.model
    prompts = [_ids(base, messages) for messages in case.rows()[: options.rows]]
    chosen = GenerateOptions(case.max_new_tokens, base.stop_ids, _pad(base))
    sides = {"transformers": _peer, "tunesmith": generate}
    seconds = before["seconds"] if before else {side: [] for side in sides}
    cpu = before["cpu_seconds"] if before else {side: [] for side in sides}
    answers: dict[str, list[list[int]]] = {}
    for repeat in range(-1, options.repeats):
        for side, run in sides.items():
            # As in a run: the fast paths are for Tunesmith, the peer has the model as it was.
            (fast.lay_over if side == "tunesmith" else fast.take_off)(base.model)
            start, start_cpu = perf_counter(), process_time()
            # The first round is short and warms caches up.
            answers[side] = run(model, prompts if repeat >= 0 else prompts[:4], chosen)
            if repeat >= 0:
                seconds[side].append(perf_counter() - start)
                cpu[side].append(process_time() - start_cpu)
    return _result(options, prompts, answers, seconds, cpu)


def _with_adapter(base: Base, folder: Path | None) -> PeftModel:
    """The base with an adapter: from `folder`, or a new one, whose B is 0."""
    if folder is not None:
        return PeftModel.from_pretrained(base.model, folder).eval()
    return get_peft_model(base.model, LoraConfig(r=RANK, target_modules="all-linear")).eval()


def _ids(base: Base, messages: list[dict[str, str]]) -> list[int]:
    text = base.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(base.tokenizer(text, add_special_tokens=False)["input_ids"])


def _pad(base: Base) -> int:
    pad = base.tokenizer.pad_token_id
    return 0 if pad is None else pad


def _peer(model: Any, prompts: list[list[int]], chosen: GenerateOptions) -> list[list[int]]:
    """Answers of transformers, without stop tokens."""
    answers = []
    for start in range(0, len(prompts), BATCH_ROWS):
        batch = prompts[start : start + BATCH_ROWS]
        width = max(map(len, batch))
        padding = [width - len(prompt) for prompt in batch]
        ids = [[chosen.pad_id] * pad + p for pad, p in zip(padding, batch, strict=True)]
        mask = [[0] * pad + [1] * (width - pad) for pad in padding]
        out = model.generate(
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            do_sample=False,
            max_new_tokens=chosen.max_new_tokens,
            eos_token_id=sorted(chosen.stop_ids),
            pad_token_id=chosen.pad_id,
        )
        answers += [_cut(row, chosen.stop_ids) for row in out[:, width:].tolist()]
    return answers


def _cut(tokens: list[int], stop_ids: frozenset[int]) -> list[int]:
    end = next((i for i, token in enumerate(tokens) if token in stop_ids), len(tokens))
    return tokens[:end]


def _result(
    options: argparse.Namespace,
    prompts: list[list[int]],
    answers: dict[str, list[list[int]]],
    seconds: dict[str, list[float]],
    cpu: dict[str, list[float]],
) -> dict[str, Any]:
    pairs = list(zip(answers["transformers"], answers["tunesmith"], strict=True))
    ratios = [a / b for a, b in zip(seconds["transformers"], seconds["tunesmith"], strict=True)]
    cpu_ratios = [a / b for a, b in zip(cpu["transformers"], cpu["tunesmith"], strict=True)]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "adapter": str(options.adapter) if options.adapter else None,
        "rows": len(prompts),
        "prompt_tokens": mean(map(len, prompts)),
        "answer_tokens": mean(len(answer) for answer in answers["transformers"]),
        "same_answers": sum(a == b for a, b in pairs),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "ratio": {"median": median(ratios), "low": min(ratios), "high": max(ratios)},
        "cpu_ratio": {
            "median": median(cpu_ratios),
            "low": min(cpu_ratios),
            "high": max(cpu_ratios),
        },
    }


def _print(results: dict[str, Any]) -> None:
    print(
        f"{'':20} {'transformers':>13} {'tunesmith':>10} {'ratio':>6}  spread        same answers"
    )
    for name, found in results.items():
        speeds = [found["rows"] / median(s) for s in found["seconds"].values()]
        ratio = found["ratio"]
        print(
            f"{name:20} {speeds[0]:6.2f} rows/s {speeds[1]:5.2f} r/s {ratio['median']:6.2f}  "
            f"{ratio['low']:.2f} to {ratio['high']:.2f}  {found['same_answers']} of {found['rows']}"
        )


if __name__ == "__main__":
    main()
