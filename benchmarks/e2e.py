"""E2E NLG: from a meaning representation to a sentence, as rows of Tunesmith, and its measures."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TRAIN, TEST = "devel-fixed.no-ol.csv", "test-fixed.csv"
"""Of the cleaned release; the usual training split is larger than what lies in this folder."""
NUM_HELDOUT = 50
"""Meaning representations of the training file that choose the learning rate, and train nothing."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Files of rows, and the references of each test row.

    Attributes:
        train: A row for each reference.
        heldout: Of other meaning representations.
        test: A row for each meaning representation.
        references: All its references, in the order of `test`.
    """

    train: Path
    heldout: Path
    test: Path
    references: list[list[str]]


def prepare(folder: Path, out: Path, num_test: int) -> Rows:
    """Write the rows as JSONL files.

    Args:
        folder: With the files of the cleaned release.
        out: Gets the files.
        num_test: Meaning representations of the test file, spread over it.
    """
    train = read(folder / TRAIN)
    meanings = list(train)
    kept = set(meanings[:: max(1, len(meanings) // NUM_HELDOUT)][:NUM_HELDOUT])
    test = read(folder / TEST)
    spread = np.linspace(0, len(test) - 1, min(num_test, len(test))).astype(int)
    asked = [list(test)[i] for i in spread]
    out.mkdir(parents=True, exist_ok=True)
    return Rows(
        _write(out / "train.jsonl", [(m, r) for m in meanings if m not in kept for r in train[m]]),
        _write(out / "heldout.jsonl", [(m, r) for m in meanings if m in kept for r in train[m]]),
        _write(out / "test.jsonl", [(m, test[m][0]) for m in asked]),
        [test[m] for m in asked],
    )


def read(path: Path) -> dict[str, list[str]]:
    """References of each meaning representation, both in the order of the file."""
    found: dict[str, list[str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["mr"].strip(), []).append(row["ref"].strip())
    return found


def bleu(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU with several references, 0 to 100 (sacrebleu, its defaults)."""
    from sacrebleu import corpus_bleu

    most = max(map(len, references))
    streams = [[refs[i] if i < len(refs) else None for refs in references] for i in range(most)]
    return corpus_bleu(list(outputs), streams).score


def rouge_l(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean over rows of the best F of ROUGE-L against any reference, 0 to 100."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    best = [
        max(scorer.score(reference, output)["rougeL"].fmeasure for reference in each)
        for output, each in zip(outputs, references, strict=True)
    ]
    return 100 * float(np.mean(best))


def _write(path: Path, rows: list[tuple[str, str]]) -> Path:
    lines = [json.dumps({"prompt": m, "completion": r}, ensure_ascii=False) for m, r in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
