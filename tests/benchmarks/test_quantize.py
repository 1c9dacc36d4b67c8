"""`benchmarks.quantize_run` trains over a base and measures it, in each way to hold it."""

import json
import math

import pytest

from benchmarks.quantize_run import measure
from tunesmith.testing.tiny import tiny_base


def _row(asked):
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": "yes"}]
    return json.dumps({"messages": messages}) + "\n"


@pytest.mark.parametrize("kind", ["none", "int8"])
def test_a_run_is_measured_before_and_after(tmp_path, kind):
    train, heldout = tmp_path / "train.jsonl", tmp_path / "heldout.jsonl"
    for path, asked in ((train, "aceg"), (heldout, "bd")):
        path.write_text("".join(_row(letter) for letter in asked))
    job = {"base": str(tiny_base(tmp_path / "base")), "task": "tickets", "kind": kind, "repeat": 0}
    job |= {
        "max_tokens": 128,
        "steps": 8,
        "train": str(train),
        "eval": str(heldout),
        "learning_rate": 1e-2,
    }
    found = measure(job)
    assert found.after < found.before - 0.1
    assert math.isclose(found.after, found.after_wide, rel_tol=0.05)
    assert (found.after == found.after_wide) is (kind == "none")
    assert len(found.losses) == 8
