"""The side of Tunesmith trains the rows of the job, step by step in their order."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.cases import CASES
from benchmarks.launch import Machine, start
from benchmarks.roster import SIDES
from benchmarks.rows import encode
from tunesmith.data.row import Message
from tunesmith.data.template import Renderer
from tunesmith.testing.tiny import byte_tokenizer, tiny_base

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def job(tmp_path, monkeypatch) -> dict:
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    renderer = Renderer(byte_tokenizer(), frozenset([257]), max_tokens=512)
    file = tmp_path / "rows.jsonl"
    with file.open("w") as out:
        for number in range(6):
            row = (Message("user", "q" * 10 * number), Message("assistant", "a" * (number + 1)))
            out.write(json.dumps(encode(row, renderer)) + "\n")
    case = CASES["lora"].job(tiny_base(tmp_path / "base"), file, timed=2)
    return case | {"rows_per_step": 2, "max_tokens": 512}


@pytest.mark.parametrize("name", ["tunesmith", "tunesmith-reference"])
def test_steps_hold_the_rows_of_the_job_in_order(job, name):
    found = start(SIDES[name], Path(sys.executable), job, Machine(threads=1, timeout=120))
    assert "steps" in found, found
    assert [step["trained"] for step in found["steps"]] == [2 + 3, 4 + 5, 6 + 7]
    assert all(step["seconds"] > 0 for step in found["steps"][1:])
    assert all(step["loss"] > 0 for step in found["steps"])
    assert found["versions"]["torch"]


def test_what_tunesmith_does_not_have_is_refused_with_the_reason(job):
    job = job | {"method": "unheard-of"}
    found = start(SIDES["tunesmith"], Path(sys.executable), job, Machine(threads=1, timeout=120))
    assert "method.name: got 'unheard-of'" in found["refused"]
