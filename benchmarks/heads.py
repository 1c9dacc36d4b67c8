"""Methods with another head than the language model's, on the starter: before and after.

    python -m benchmarks.heads classify ../shared/data runs/heads [key=value ...]

classify: the 150 intents of CLINC150, 7,500 rows; accuracy on 450 of the test rows.
reward: pairs of llms_from_scratch; accuracy on 100 pairs that were left out.
embed: its instructions and their outputs; recall@1 and MRR among 100 that were left out.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunesmith.api.train import train
from tunesmith.config.overrides import apply_overrides
from tunesmith.recipe import from_dict
from tunesmith.runs.timeline import Timeline

Rows = list[dict[str, Any]]

TEST_ROWS = 450
"""Three of each intent: every tenth of the test rows."""
LEFT_OUT = 100


def classify(data: Path) -> tuple[Rows, Rows]:
    """Texts with their intent, those out of scope left aside."""
    found = json.loads((data / "clinc150" / "data_small.json").read_text(encoding="utf-8"))
    split = {
        name: [{"text": text, "label": intent} for text, intent in found[name]]
        for name in ("train", "test")
    }
    return split["train"], split["test"][:: len(split["test"]) // TEST_ROWS]


def reward(data: Path) -> tuple[Rows, Rows]:
    """Instructions with a better and a worse answer; equal answers left out."""
    path = data / "llms_from_scratch" / "instruction-data-with-preference.json"
    rows = [row for row in json.loads(path.read_text()) if row["chosen"] != row["rejected"]]
    kept = [{k: v for k, v in row.items() if k != "output"} for row in rows]
    return kept[:-LEFT_OUT], kept[-LEFT_OUT:]


def embed(data: Path) -> tuple[Rows, Rows]:
    """Instructions and their outputs."""
    path = data / "llms_from_scratch" / "instruction-data.json"
    rows = [row for row in json.loads(path.read_text()) if row["output"].strip()]
    pairs = [
        {"query": f"{row['instruction']}\n{row['input']}".strip(), "positive": row["output"]}
        for row in rows
    ]
    return pairs[:-LEFT_OUT], pairs[-LEFT_OUT:]


METHODS: dict[str, tuple[Callable[[Path], tuple[Rows, Rows]], dict[str, Any]]] = {
    "classify": (classify, {"steps": 234, "learning_rate": 1e-3, "batch_rows": 32}),
    "reward": (reward, {"steps": 60, "learning_rate": 2e-4, "batch_rows": 8}),
    "embed": (embed, {"steps": 60, "learning_rate": 2e-4, "batch_rows": 32}),
}


def main() -> None:
    """Write the rows, train, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("changes", nargs="*")
    asked = parser.parse_args()
    read, keys = METHODS[asked.method]
    folder = asked.out / asked.method
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(("train", "heldout"), read(asked.data), strict=True):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    recipe = {
        "model": {"base": "starter"},
        "data": {"train": f"{folder}/train.jsonl", "eval": f"{folder}/heldout.jsonl"},
        "adapter": {"name": "lora", "rank": 16},
        "method": {"name": asked.method},
        "train": keys,
        "evaluate": {"probes": []},
        "output": {"dir": str(folder / "run")},
    }
    run = train(from_dict(apply_overrides(recipe, asked.changes)))
    measured = Timeline.read(run.folder.events).evaluations
    figures = {f"step {e['step']}": {"loss": e["loss"], **e["figures"]} for e in measured}
    report = run.report
    print(
        json.dumps(
            {
                "method": asked.method,
                **figures,
                "seconds": round(report["train"]["seconds"], 1),
                "certificate": report["certificate"]["max_logit_difference"],
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
