"""Averages of weights are kept, resumed, measured, and exported where they are better."""

import json
from importlib import import_module
from importlib.util import find_spec

import pytest
import torch

from tunesmith.api import averages
from tunesmith.api.averages import mean
from tunesmith.api.session import last_saved
from tunesmith.api.train import resume, train
from tunesmith.checkpoint.layout import step_folder, steps
from tunesmith.checkpoint.state import read_state
from tunesmith.engine.saving import read_parameters
from tunesmith.errors import Interrupted, RecipeError


def test_a_mean_by_hand():
    weights = [{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([2.0, 6.0])}]
    assert mean(weights)["w"].tolist() == [1.5, 4.0]


@pytest.mark.parametrize(
    ("num_steps", "every", "number", "expected"),
    [(12, 5, 3, [12, 10, 5]), (10, 5, 3, [10, 5]), (6, 1, 2, [6, 5]), (3, 100, 2, [3])],
)
def test_the_last_are_a_function_of_the_recipe(make, num_steps, every, number, expected):
    recipe = make(checkpoint__every=every, checkpoint__average={"last": number})
    assert last_saved(recipe, num_steps) == expected
    assert last_saved(make(checkpoint__every=every), num_steps) == []


@pytest.mark.parametrize("average", [{"last": 1}, {"last": 2, "best": 2}, {"first": 2}, {}])
def test_an_average_of_one_or_of_two_kinds_is_refused(make, average):
    with pytest.raises(RecipeError, match="average"):
        make(checkpoint__average=average)


@pytest.fixture
def better(monkeypatch):
    """Let averages be better than the best checkpoint, or worse."""

    def decide(wins):
        monkeypatch.setattr(averages, "beats", lambda one, other, task: wins)

    return decide


@pytest.fixture
def short(make):
    """A recipe of six steps, each saved, measured by held-out rows."""

    def build(**changes):
        keys = {"train__epochs": 1, "evaluate__tasks": [], "evaluate__every": 3}
        return make(**{**keys, **changes})

    return build


class Shipped(dict):
    """The parameters at the moment of the export, by name."""

    chosen = ""


@pytest.fixture
def shipped(monkeypatch):
    """What would be exported; the export itself takes seconds and is left out."""
    found = Shipped()

    def export(session, chosen):
        trained = session.learner.attached.trained
        found.update({name: p.detach().clone() for name, p in trained.items()})
        found.chosen = str(chosen)
        return None, None

    monkeypatch.setattr(import_module("tunesmith.api.finish"), "_export", export)
    return found


def _equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("wins", [True, False])
def test_the_better_weights_are_exported(short, better, shipped, wins):
    better(wins)
    recipe = short(checkpoint__average={"last": 3}, checkpoint__keep=1, train__ema=0.5)
    run = train(recipe)
    report = run.report
    found = {each["name"]: each for each in report["checkpoint"]["averages"]}
    assert found["ema"]["steps"] == []
    assert found["last 3"]["steps"] == [4, 5, 6]
    assert all(each["loss"] > 0 for each in found.values())
    assert set(steps(run.folder.checkpoints)) >= {4, 5, 6}
    saved = [read_parameters(step_folder(run.folder.checkpoints, s)) for s in (4, 5, 6)]
    assert _equal(shipped, mean(saved)) == wins
    best = report["checkpoint"]["best_step"]
    assert shipped.chosen == ("last 3" if wins else f"step {best}")
    details = json.loads((run.path / "evaluations" / "last-3.json").read_text())
    if wins:
        sums, counts = details["heldout"]["sums"], details["heldout"]["counts"]
        assert report["eval_loss"]["after"] == pytest.approx(sum(sums) / sum(counts))
        assert found["last 3"]["loss"] == pytest.approx(report["eval_loss"]["after"])


def test_a_moving_average_is_resumed_and_can_be_exported(short, better, shipped, tmp_path):
    better(True)
    whole = train(short(train__ema=0.9))
    cut = short(train__ema=0.9, output__dir=str(tmp_path / "runs" / "cut"))
    with pytest.raises(Interrupted):
        train(cut, until=4)
    resumed = resume(cut.output.dir)
    found = []
    for run in (whole, resumed):
        tensors, values = read_state(step_folder(run.folder.checkpoints, 6))
        assert values["ema"] == {"updates": 6}
        found.append(tensors)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    ema = {n.removeprefix("ema/"): t for n, t in found[0].items() if n.startswith("ema/")}
    assert _equal(shipped, ema)
    assert shipped.chosen == "ema"


def test_the_best_checkpoints_are_kept_and_averaged(short, better, shipped):
    better(True)
    run = train(short(checkpoint__average={"best": 2}, checkpoint__keep=1, evaluate__every=2))
    (average,) = run.report["checkpoint"]["averages"]
    assert average["name"] == "best 2"
    assert len(average["steps"]) == 2
    assert set(average["steps"]) <= set(range(2, 7, 2))
    assert set(average["steps"]) <= set(steps(run.folder.checkpoints))


def test_without_a_measure_an_average_is_not_exported(short, shipped):
    run = train(short(train__ema=0.5, data__eval=None))
    assert run.report["checkpoint"]["averages"] == []
    assert shipped.chosen == "step 6"
    assert any("ema is not exported" in text for text in run.report["warnings"])


@pytest.mark.skipif(not find_spec("schedulefree"), reason="schedulefree is missing")
def test_the_average_of_a_schedule_free_optimizer_is_measured_and_exported(short, shipped):
    keys = {"train__optimizer": "schedule_free_adamw", "train__schedule": "constant"}
    run = train(short(**keys))
    best = run.report["checkpoint"]["best_step"]
    tensors, values = read_state(step_folder(run.folder.checkpoints, best))
    beta = values["optimizer"]["groups"][0]["betas"][0]
    for name, y in tensors.items():
        if not name.startswith("parameter/"):
            continue
        name = name.removeprefix("parameter/")
        x = y.lerp(tensors[f"optimizer/{name}/z"], 1 - 1 / beta)
        torch.testing.assert_close(shipped[name], x)
        assert not torch.equal(shipped[name], y)
    with pytest.raises(RecipeError, match="averages weights by itself"):
        train(short(**keys, train__ema=0.9))
