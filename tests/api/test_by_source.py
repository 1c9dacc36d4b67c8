"""The loss of each source beside that of all rows."""

import json

import numpy as np
import pytest
import torch

from tunesmith.api.by_source import names_by_path, telling
from tunesmith.api.train import train
from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.data.section import DataSection, Source
from tunesmith.methods.base import LossSum
from tunesmith.runs.timeline import Timeline


def _example(path, length, sequences=1):
    ids = np.arange(length * sequences, dtype=np.int32)
    trained = np.tile(np.arange(length) >= 1, sequences)
    return Example(ids, trained, path, 1, (length,) * sequences if sequences > 1 else ())


NAMES = {"a": "first", "b": "second", "": "replay"}


def test_the_losses_of_tokens_are_added_up_by_the_file_of_their_row():
    batch = collate([_example("a", 3), _example("b", 2), _example("a", 2)], True, 0)
    each = torch.tensor([1.0, 2.0, 10.0, 4.0])
    found = telling(lambda batch: LossSum(each.sum(), 4, {"x": (each[0], 1)}, each), NAMES)(batch)
    told = {name: (float(value), count) for name, (value, count) in found.figures.items()}
    assert told == {
        "x": (1.0, 1), "loss/first": (7.0, 3), "loss/second": (10.0, 1), "loss/replay": (0.0, 0),
    }  # fmt: skip


def test_the_losses_of_examples_of_two_sequences_too():
    batch = collate([_example("b", 3, 2), _example("z", 2, 2)], True, 0)
    each = torch.tensor([1.0, 2.0])
    found = telling(lambda batch: LossSum(each.sum(), 2, each=each), NAMES)(batch)
    assert {name: float(value) for name, (value, _) in found.figures.items()} == {
        "loss/first": 0.0, "loss/second": 1.0, "loss/replay": 2.0,
    }  # fmt: skip


def test_one_source_or_a_method_that_does_not_say_tells_nothing():
    batch = collate([_example("a", 3)], True, 0)
    plain = LossSum(torch.tensor(1.0), 1)

    def same(batch):
        return plain

    assert telling(same, NAMES)(batch) is plain
    assert telling(same, {"a": "first"}) is same


def test_a_file_that_is_listed_twice_has_one_name():
    sources = [Source(path="x/a.jsonl"), Source(path="x/a.jsonl", name="again")]
    section = DataSection(train=sources, replay={"share": 0.5, "from": "g.jsonl"})
    assert names_by_path(section) == {"x/a.jsonl": "a", "": "replay"}


def test_a_run_over_a_mixture_tells_each_source(make, rows, tmp_path):
    other = tmp_path / "other.jsonl"
    lines = [{"q": f"{i}", "a": "zz"} for i in range(8)]
    other.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sources = [
        {"path": str(rows), "name": "numbers"},
        {"path": str(other), "columns": {"prompt": "q", "completion": "a"}},
    ]
    mix = {"temperature": 2.0}
    made = make(
        data__train=sources, data__eval=sources, data__mix=mix, train__epochs=1, evaluate__tasks=[],
        adapter__dropout=0.0,
    )  # fmt: skip
    run = train(made)
    timeline = Timeline.read(run.folder.events)
    first, last = timeline.evaluations[0]["figures"], timeline.evaluations[-1]["figures"]
    assert set(first) == {"loss/numbers", "loss/other"}
    assert last["loss/other"] < first["loss/other"]
    step = timeline.steps[0]
    assert min(step["figures"].values()) <= step["loss"] <= max(step["figures"].values())
    # Roots of 24 and 8 rows share 32 rows as 20.3 and 11.7.
    told = {each["name"]: each for each in run.report["sources"]}
    assert told["numbers"]["rows"] == 24
    assert told["numbers"]["weight"] == pytest.approx(32 * 24**0.5 / (24**0.5 + 8**0.5) / 24)
    assert told["other"]["loss_before"] == pytest.approx(first["loss/other"])
    assert told["other"]["loss_after"] == pytest.approx(last["loss/other"])
    assert "## Sources" in (run.path / "report.md").read_text()
