"""docs/graders.md: every grader is there, and each example gives the score that it says."""

import json
import re
from pathlib import Path

import pytest

from tunesmith.evaluate import graders
from tunesmith.evaluate.graders.base import Answered
from tunesmith.evaluate.judges.endpoint import Endpoint
from tunesmith.evaluate.means import Means

PAGE = (Path(__file__).parents[2] / "docs" / "graders.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
SECTIONS = dict(SECTION.findall(PAGE))


def block(name, language):
    found = re.search(rf"^```{language}\n(.*?)^```$", SECTIONS[name], re.DOTALL | re.MULTILINE)
    return found[1]


def test_the_page_has_every_grader():
    assert sorted(SECTIONS) == graders.names()


@pytest.mark.parametrize("name", graders.names())
def test_an_example_gives_the_score_that_it_says(name, monkeypatch, tmp_path):
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    spec = json.loads(block(name, "json"))
    examples = [json.loads(line) for line in block(name, "jsonl").splitlines()]
    assert spec["type"] == name
    assert examples
    for number, example in enumerate(examples):
        monkeypatch.setattr(Endpoint, "answer", lambda *asked, e=example: [e["judge"]])
        monkeypatch.setattr(Endpoint, "identity", f"example {number}")
        likely = [(log_p, 1) for log_p in example.get("log_likelihoods", [])]
        grading = graders.open(spec, Means(log_likelihoods=lambda pairs, known=likely: known))
        output, reference = example.get("output", ""), example.get("reference", "")
        row = example.get("row", {})
        grading.grader.check(reference, row) if "failure" not in example else None
        scored = grading.score_all([Answered(output, reference, row, [1])])[0]
        assert scored.score == pytest.approx(example["score"], abs=1e-6), example
        assert scored.failure == example.get("failure", ""), example
