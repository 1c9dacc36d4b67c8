"""Preference methods in whole runs: the reference, held-out figures, and the same bits resumed."""

import json
import shutil
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tunesmith.api import beforehand, build, session
from tunesmith.api.batches import build_loader
from tunesmith.api.learner import build_base, build_learner
from tunesmith.api.plan import plan
from tunesmith.api.reference import add_reference
from tunesmith.api.resolve import resolve
from tunesmith.api.rows import build_rows
from tunesmith.api.train import resume, train
from tunesmith.errors import DataError, Interrupted
from tunesmith.methods import base as methods
from tunesmith.recipe import from_dict
from tunesmith.runs.events import Phase
from tunesmith.runs.timeline import Timeline

ASKING = "asking the model, before it is trained, how likely each answer is"


class FakePrepared:
    """Ten examples that remember what they come with."""

    def __init__(self) -> None:
        self.given = {}

    def __len__(self) -> int:
        return 10

    def add_numbers(self, name, give) -> None:
        """As `Prepared` does."""
        self.given[name] = give


@pytest.fixture
def hurried(monkeypatch):
    """Runs that measure little beforehand and draw no pages."""
    monkeypatch.setattr(session, "FIT_SECONDS", 0.0)
    monkeypatch.setattr(sys.modules[train.__module__], "write_pages", lambda folder: None)


@pytest.fixture
def paired(recipe_data, tmp_path, hurried):
    """A recipe over pairs, as a function of its method and of dotted changes."""
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"say {'x' * (i % 5)}", "chosen": f"{i % 7}" * (1 + i % 3), "rejected": f"no{i}"}
        for i in range(16)
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")

    def make(name: str, **changes):
        data = json.loads(json.dumps(recipe_data))
        data["data"] |= {"train": str(path), "eval": str(path)}
        data["evaluate"] = {"every": 2, "probes": []}
        data["adapter"] |= {"dropout": 0.0}
        data["train"] |= {"batch_rows": 4, "accumulate": 1, "steps": 4, "epochs": None}
        data["method"] = {"name": name}
        for key, value in changes.items():
            section, _, key_name = key.partition("__")
            data[section][key_name] = value
        return from_dict(data)

    return make


def _trained(recipe, folder: Path, until: int) -> Path:
    """Trains in a folder, and is stopped after so many steps; the folder."""
    output = recipe.output.model_copy(update={"dir": str(folder)})
    with pytest.raises(Interrupted):
        train(recipe.model_copy(update={"output": output}), until=until)
    return folder


def _weights(folder: Path) -> bytes:
    return (folder / "checkpoints" / "step-4" / "state.safetensors").read_bytes()


def _asks(recipe) -> tuple[list[str], list[list[float]]]:
    """What is told while the reference is made, and what each planned example gets."""
    recipe = resolve(recipe)
    build.seed_everything(recipe.train.seed)
    base = build_base(recipe)
    rows = build_rows(recipe, base)
    learner = build_learner(recipe, base)
    told: list[Phase] = []
    with closing(build_loader(recipe, rows)) as loader:
        planned = loader.planned_examples()
        add_reference(recipe, base.source, rows, learner, loader, told.append)
    numbers = [rows.train[i].numbers.get("reference", []) for i in planned]
    return [phase.name for phase in told], [list(each) for each in numbers]


@pytest.mark.parametrize("name", methods.names())
def test_resumed_equals_uninterrupted(hurried, of_method, tmp_path, name) -> None:
    changes = {"evaluate": {"every": 2, "probes": []}, "checkpoint__every": 1}
    changes |= {"train__batch_rows": 4, "train__accumulate": 1, "train__steps": 4}
    if name == "rejection":
        changes["method__threshold"] = None  # The tiny model's answers are never right.
    recipe = of_method(name, train__epochs=None, **changes)
    whole = _trained(recipe, tmp_path / "whole", 4)
    # As a machine leaves it that lost power after the second step.
    cut = Path(shutil.copytree(whole, tmp_path / "cut"))
    for step in (3, 4):
        shutil.rmtree(cut / "checkpoints" / f"step-{step}")
    with pytest.raises(Interrupted):
        resume(cut, until=4)
    assert _weights(cut) == _weights(whole)
    events = Timeline.read(cut / "events.jsonl")
    assert events.started[-1]["resumed_from"] == 2


@pytest.mark.parametrize("adapter", [{"name": "lora", "rank": 4}, {"name": "full"}])
def test_the_reference_is_asked_once(paired, adapter) -> None:
    recipe = from_dict(paired("dpo").model_dump(mode="json") | {"adapter": adapter})
    told, numbers = _asks(recipe)
    assert told == [ASKING]  # Once for both files: they hold the same rows.
    assert _asks(recipe) == ([], numbers)
    assert [len(each) for each in numbers] == [2] * 16
    assert all(value < 0 for each in numbers for value in each)


def test_the_reference_is_that_of_the_base_whatever_the_adapter(paired) -> None:
    recipe = paired("dpo").model_dump(mode="json")
    full = _asks(from_dict(recipe | {"adapter": {"name": "full"}}))[1]
    lora = _asks(from_dict(recipe | {"adapter": {"name": "lora", "rank": 4}}))[1]
    for one, other in zip(lora, full, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"data__packing": False},
        {"train__kernels": "reference"},
        {"train__precision": "bf16"},
        {"model__quantize": "int8"},
        {"adapter__rank": 2},
    ],
)
def test_what_decides_the_reference_asks_anew(paired, changes) -> None:
    _asks(paired("dpo"))
    assert ASKING in _asks(paired("dpo", **changes))[0]


def test_another_loss_over_the_same_rows_asks_nothing(paired) -> None:
    _, numbers = _asks(paired("dpo"))
    changes = {"train__learning_rate": 1e-3, "method__beta": 0.5, "train__seed": 4}
    assert _asks(paired("ipo", **changes)) == ([], numbers)


def test_a_method_without_reference_asks_nothing(paired) -> None:
    assert _asks(paired("simpo"))[0] == []


def test_the_report_tells_held_out_figures_before_and_after(paired) -> None:
    run = train(paired("dpo", train__steps=8))
    found = {each["name"]: each for each in run.report["heldout_figures"]}
    assert list(found) == ["margin", "accuracy", "chosen_log_prob", "rejected_log_prob"]
    margin = found["margin"]
    assert margin["n"] == 16
    assert margin["before"] == pytest.approx(0.0, abs=1e-5)
    assert margin["after"] == pytest.approx(margin["before"] + margin["gain"])
    low, high = margin["interval"]
    assert 0 < low < margin["gain"] < high
    assert found["accuracy"]["after"] > 0.5
    assert "held-out margin (16 rows)" in (run.path / "report.md").read_text()
    steps = Timeline.read(run.folder.events).steps
    assert steps[0]["figures"]["margin"] == pytest.approx(0.0, abs=1e-5)
    assert steps[-1]["figures"]["margin"] > 0
    assert run.report["certificate"]["ok"]


def test_the_loss_of_kto_does_not_depend_on_the_passes(paired, tmp_path) -> None:
    def losses(name: str, **changes) -> list[float]:
        recipe = paired("kto", train__learning_rate=3e-2, **changes)
        _trained(recipe, tmp_path / name, 3)
        return [step["loss"] for step in Timeline.read(tmp_path / name / "events.jsonl").steps]

    whole = losses("whole")
    assert losses("cut", train__batch_rows=1, train__accumulate=4) == pytest.approx(whole, rel=1e-4)
    assert len(set(whole)) == 3


def test_a_short_run_asks_only_about_the_rows_that_it_trains_on(paired, tmp_path) -> None:
    whole = paired("dpo", train__steps=None, train__epochs=1, train__batch_rows=1)
    short = paired("dpo", train__steps=2, train__epochs=None, train__batch_rows=1)
    every = [tuple(each) for each in _asks(whole)[1]]
    asked = [tuple(each) for each in _asks(short)[1]]
    assert len(asked) == 2 < len(every)
    assert set(asked) <= set(every)
    run = _trained(short, tmp_path / "short", 2)
    assert len(Timeline.read(run / "events.jsonl").steps) == 2


def test_a_run_ends_well_that_asked_nothing_about_the_first_rows(paired, tmp_path) -> None:
    changes = {"train__steps": 1, "train__epochs": None, "train__batch_rows": 1}
    recipe = paired("dpo", data__eval=None, output__dir=str(tmp_path / "run"), **changes)
    rows = build_rows(resolve(recipe), build_base(resolve(recipe)))
    with closing(build_loader(resolve(recipe), rows)) as loader:
        assert 0 not in loader.planned_examples()
    assert train(recipe).status == "succeeded"  # The export is tried on the first rows.


def test_an_example_that_no_step_has_is_no_silent_zero(paired) -> None:
    asked = beforehand.Asked(FakePrepared(), np.array([2, 5]))
    asked.add("reference", lambda i: np.float32([10 * i]))
    give = asked.prepared.given["reference"]
    assert [give(2)[0], give(5)[0]] == [0, 10]
    with pytest.raises(LookupError, match="nobody was asked about example 3"):
        give(3)


def test_the_plan_tells_what_asking_takes_and_asks_little(paired, monkeypatch) -> None:
    monkeypatch.setattr(beforehand, "MAX_TOKENS", 128)
    monkeypatch.setattr(sys.modules[plan.__module__], "FIT_SECONDS", 0.0)
    recipe = paired("dpo")
    found = plan(recipe)
    assert found.reference_seconds > 0
    assert ASKING in _asks(recipe)[0], "the plan keeps nothing"
    assert plan(recipe).reference_seconds == 0
    assert plan(paired("cpo")).reference_seconds == 0


def test_answers_are_not_what_preference_methods_read(paired, rows) -> None:
    with pytest.raises(DataError, match="rows.jsonl:1: got the keys 'prompt', 'completion'"):
        train(paired("dpo", data__train=str(rows)))


def test_pairs_are_not_what_sft_reads(paired) -> None:
    with pytest.raises(DataError, match="for the preference methods, such as dpo"):
        train(paired("sft"))
