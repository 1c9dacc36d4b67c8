"""Answers that share their prompt: computed once against computed for each, alternating.

Two cases on the starter model with LoRA in bf16: pairs of answers with the loss of DPO
(arXiv:2305.18290, the policy's log-probabilities alone), and groups of 8 answers weighed by
advantages. Both sides see the same examples in the same forward passes; what differs is whether
they are laid out by `collate_groups` or by `collate`.

    python -m benchmarks.prefix [FOLDER]

FOLDER is one of the shared data sets with preferences (hh_rlhf, llamafactory_demo); without it,
lengths are drawn and tokens are random. Prints one table, and puts it with versions and machine
into benchmarks/results/prefix.json, in place of what was there of the same rows.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.compare import spread
from benchmarks.machine import describe
from benchmarks.preferences import Pair, drawn, tokenised
from tunesmith.adapters import lora
from tunesmith.data.collate import collate, collate_groups
from tunesmith.data.example import Batch, Example
from tunesmith.models import fast
from tunesmith.models.load import load
from tunesmith.models.policy import Policy
from tunesmith.models.resolve import resolve

REPEATS = 3
PASSES = 2
"""Forward and backward passes of a repeat and side."""
PAIRS = 2
"""Pairs of one pass."""
GROUP = 8
"""Answers of a group; one group a pass."""
MAX_GROUP_ANSWER = 96
"""Tokens of an answer of a group, cut here: as long as those to a task with short answers."""
Groups = list[list[Example]]
Loss = Callable[[Tensor], Tensor]
RESULTS = Path(__file__).parent / "results" / "prefix.json"


def main() -> None:
    """Measure and print."""
    base = load(resolve("starter", None), torch.bfloat16)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    rows = tokenised(folder, base.tokenizer) if folder else drawn()
    pairs = list(islice(rows, GROUP * PASSES))
    model = lora.attach(base.model, lora.Config(), seed=0).model
    fast.lay_over(model)
    policy = Policy(model, "fast", torch.bfloat16)
    cases = {
        "pairs": _measure(policy, _pair_groups(pairs), _dpo),
        f"groups of {GROUP}": _measure(policy, _answer_groups(pairs), _weighed),
    }
    _report(folder.name if folder else "drawn", cases)


def _example(prompt: list[int], answer: list[int], row: int) -> Example:
    ids = np.array([*prompt, *answer], dtype=np.int32)
    return Example(ids, np.arange(len(ids)) >= len(prompt), "benchmark", row)


def _pair_groups(pairs: list[Pair]) -> list[Groups]:
    """The groups of each pass."""
    passes = []
    for start in range(0, PAIRS * PASSES, PAIRS):
        chosen = enumerate(pairs[start : start + PAIRS], start)
        passes.append(
            [[_example(prompt, a, row) for a in answers] for row, (prompt, *answers) in chosen]
        )
    return passes


def _answer_groups(pairs: list[Pair]) -> list[Groups]:
    """A prompt a pass; since nobody sampled answers to it, those of other rows stand in."""
    passes = []
    for number in range(PASSES):
        start = number * GROUP
        prompt = pairs[start][0]
        answers = [chosen[:MAX_GROUP_ANSWER] for _, chosen, _ in pairs[start : start + GROUP]]
        passes.append([[_example(prompt, answer, start) for answer in answers]])
    return passes


def _dpo(log_probs_R: Tensor) -> Tensor:
    chosen, rejected = log_probs_R.view(-1, 2).unbind(1)
    return -F.logsigmoid(0.1 * (chosen - rejected)).sum()


def _weighed(log_probs_R: Tensor) -> Tensor:
    return -(torch.linspace(-1.0, 1.0, len(log_probs_R)) * log_probs_R).sum()


@dataclass(frozen=True)
class _Case:
    """Tokens that each side computes, and its seconds in every repeat."""

    tokens: dict[str, int]
    seconds: dict[str, list[float]]

    @property
    def ratios(self) -> list[float]:
        """Seconds alone over seconds shared, repeat by repeat."""
        sides = zip(self.seconds["alone"], self.seconds["shared"], strict=True)
        return [alone / shared for alone, shared in sides]


def _measure(policy: Policy, passes: list[Groups], loss: Loss) -> _Case:
    sides = {
        "alone": [collate([e for g in groups for e in g], True, 0) for groups in passes],
        "shared": [collate_groups(groups, True, 0) for groups in passes],
    }
    tokens = {name: sum(batch.num_tokens for batch in sides[name]) for name in sides}
    case = _Case(tokens, {name: [] for name in sides})
    for repeat in range(-1, REPEATS):
        for name, batches in sides.items():
            seconds = _seconds(policy, batches, loss)
            if repeat >= 0:  # The first round warms caches up.
                case.seconds[name].append(seconds)
    return case


def _seconds(policy: Policy, batches: list[Batch], loss: Loss) -> float:
    start = perf_counter()
    for batch in batches:
        loss(policy.sequence_log_probs(batch)).backward()
    policy.model.zero_grad(set_to_none=True)
    return perf_counter() - start


def _report(rows: str, cases: dict[str, _Case]) -> None:
    found = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(torch.get_num_threads()),
        "torch": torch.__version__,
        "cases": {name: _summary(case) for name, case in cases.items()},
    }
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(before | {rows: found}, indent=1) + "\n", encoding="utf-8")
    print(f"{rows:18} {'tokens alone':>12} {'shared':>8} {'ratio':>8} {'faster':>8}")
    for name, summary in found["cases"].items():
        tokens, ratio = summary["tokens"], summary["ratio"]
        print(
            f"{name:18} {tokens['alone']:12} {tokens['shared']:8} {ratio['tokens']:8.2f} "
            f"{ratio['median']:8.2f}  ({ratio['low']:.2f} to {ratio['high']:.2f})"
        )


def _summary(case: _Case) -> dict[str, Any]:
    fewer = case.tokens["alone"] / case.tokens["shared"]
    ratio = {"tokens": fewer, **asdict(spread(case.ratios))}
    return {"tokens": case.tokens, "seconds": case.seconds, "ratio": ratio}


if __name__ == "__main__":
    main()
