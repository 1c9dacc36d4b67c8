"""The matrix of recipes whose resume is proven, and the few of them that cover every pair."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import combinations, product
from pathlib import Path

FACTORS = {
    "adapter": ("lora", "full"),
    "packing": (True, False),
    "accumulate": (1, 2),
    "epoch_steps": (6, 4, 3),
    "precision": ("fp32", "bf16"),
    "rejected": (False, True),
    "dropout": (0.0, 0.1),
    "quantize": ("none", "int8", "nf4") if find_spec("bitsandbytes") else ("none", "int8"),
}
"""The proof kills at step 4: in the midst of an epoch of 6 steps, at the end of one of 4, and in
the second one of 3. `rejected`: one row has a loss that is NaN."""

ROWS_A_STEP = 4
POISONED = 3

Case = dict[str, object]

DRAWN = {
    "grpo": {"updates": 3, "beta": 0.1, "cut": "punish"},
    "ppo": {"minibatches": 2, "beta": 0.1},
    "rejection": {"threshold": 0.03, "rounds": 2, "updates": 2},
}
"""Methods that draw their answers, so that the proof kills in the midst of a rollout and at its
end."""
LIKE = {
    "type": "text_similarity",
    "name": "like",
    "evaluation_metric": "fuzzy_match",
    "reference": "etaoin shrdlu, ETAOIN SHRDLU; 0123456789",
}
"""A grader that gives even a random model different scores."""


def matrix() -> list[Case]:
    """Every recipe that makes sense: only LoRA has dropout, and a base in few bits."""
    cases = [dict(zip(FACTORS, values, strict=True)) for values in product(*FACTORS.values())]
    plain = {"dropout": 0.0, "quantize": "none"}
    return [c for c in cases if c["adapter"] == "lora" or all(c[k] == v for k, v in plain.items())]


def covering(cases: list[Case]) -> list[Case]:
    """Few cases in which every pair of values comes that comes in any: greedily, the first wins."""
    left = {pair for case in cases for pair in pairs(case)}
    chosen = []
    while left:
        chosen.append(max(cases, key=lambda case: len(left.intersection(pairs(case)))))
        left.difference_update(pairs(chosen[-1]))
    return chosen


def pairs(case: Case) -> Iterator[tuple]:
    """Every two values of a case, with the names of their factors."""
    return combinations(case.items(), 2)


def name(case: Case) -> str:
    """What tests call it."""
    return " ".join(f"{key}={value}" for key, value in case.items())


def recipe(case: Case, base: Path, rows: Path) -> dict:
    """The recipe of a case; the row file has the rows of one epoch."""
    adapter = {"name": "full"}
    if case["adapter"] == "lora":
        adapter = {"name": "lora", "rank": 4, "dropout": case["dropout"]}
    return {
        "model": {"base": str(base), "quantize": case["quantize"]},
        "data": {"train": str(rows), "max_tokens": 128, "packing": case["packing"]},
        "adapter": adapter,
        "train": {
            "epochs": 3,
            "batch_rows": ROWS_A_STEP // case["accumulate"],
            "accumulate": case["accumulate"],
            "learning_rate": 1e-2,
            "precision": case["precision"],
        },
        "evaluate": {"probes": []},
    }


def write_rows(path: Path, number: int) -> Path:
    """Rows of prompt and completion, of different lengths."""
    rows = [
        {"prompt": "say " + "x" * (i % 5), "completion": f"{i % 7}" * (1 + i % 3)}
        for i in range(number)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def drawn_recipe(method: str, base: Path, rows: Path) -> dict:
    """A recipe of a method that draws its answers; ppo trains the whole model."""
    found = recipe(next(iter(matrix())), base, rows)
    found["adapter"] = {"name": "full" if method == "ppo" else "lora"}
    found["method"] = {
        "name": method,
        "grader": LIKE,
        "num_answers": 3,
        "max_new_tokens": 6,
        **DRAWN[method],
    }
    found["train"] |= {"learning_rate": 1e-3, "batch_rows": 3}
    return found
