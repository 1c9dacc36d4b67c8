"""Faults in training: nothing that is not finite is kept, and no ruined model succeeds."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.api import build
from tunesmith.api.train import resume, train
from tunesmith.checkpoint.verify import latest
from tunesmith.engine.sound import unsound
from tunesmith.errors import Interrupted, RunError
from tunesmith.methods.base import LossSum
from tunesmith.runs.folder import RunFolder
from tunesmith.runs.timeline import Timeline
from tunesmith.testing.faulty import Once, Poison, leave_out_export, rows_of, step_now, strike


@pytest.fixture
def long(make, tmp_path, monkeypatch):
    """A recipe of 30 steps over 24 rows, 4 a step, in a folder of its own; nothing measured."""
    leave_out_export(monkeypatch)

    def build_one(name="run", **changes):
        keys = {
            "train__epochs": 5,
            "data__eval": None,
            "evaluate__tasks": [],
            "checkpoint__every": 4,
            "output__dir": str(tmp_path / name),
        }
        return make(**{**keys, **changes})

    return build_one


def _line(run):
    keys = ("step", "loss", "learning_rate", "grad_norm", "tokens", "rejected", "update_norm")
    return [[step[key] for key in keys] for step in Timeline.read(run.folder.events).steps]


def _unsound(path):
    """Tensors of a run folder, checkpoints and artefact, that are not finite."""
    files = list(Path(path).rglob("*.safetensors"))
    assert files
    return [f"{file}: {name}" for file in files for name in unsound(load_file(file))]


def _loss(batch, loss, learner):
    return LossSum(loss.total * math.nan, loss.count)


def _gradient(batch, loss, learner):
    loss.total.register_hook(lambda gradient: gradient * math.inf)


def _embedding(batch, loss, learner):
    embedding = learner.policy.model.get_input_embeddings()
    hook = embedding.register_forward_hook(lambda module, given, answer: answer * math.nan)
    spoiled = learner.policy.token_nll(batch).sum()
    hook.remove()
    return LossSum(spoiled, loss.count)


@pytest.mark.parametrize("where", [_loss, _gradient, _embedding])
def test_a_step_that_is_not_finite_is_rejected_and_named(long, monkeypatch, where):
    recipe = long()
    strike(monkeypatch, Once(11, where))
    report = train(recipe).report
    assert report["status"] == "succeeded"
    assert report["train"]["rejected_steps"] == 1
    (rejected,) = report["guard"]["rejected"]
    assert rejected["step"] == 12
    assert sorted(map(tuple, rejected["rows"])) == sorted(rows_of(recipe, [11]))
    assert "not finite" in rejected["reason"]
    assert report["guard"]["went_back"] == []
    assert _unsound(recipe.output.dir) == []


def _weight(batch, loss, learner):
    next(iter(learner.attached.trained.values())).data.view(-1)[0] = math.nan
    return LossSum(learner.policy.token_nll(batch).sum(), loss.count)


class Moment:
    """Spoils a moment of the optimizer."""

    def __init__(self, name, value, monkeypatch):
        self.name, self.value = name, value
        made, good = [], build.build_optimizer

        def build_optimizer(recipe, learner):
            made.append(good(recipe, learner))
            return made[-1]

        monkeypatch.setattr(build, "build_optimizer", build_optimizer)
        self.made = made

    def __call__(self, batch, loss, learner):
        state = next(iter(self.made[-1].state.values()))
        state[self.name].view(-1)[0] = self.value


@pytest.mark.parametrize(
    ("step", "fault", "said"),
    [
        (20, lambda monkeypatch: _weight, "trained tensors"),
        (3, lambda monkeypatch: Moment("exp_avg", math.nan, monkeypatch), "tensors to be saved"),
        # The moment that stops a parameter for good, and shows in no loss and in no parameter.
        (21, lambda monkeypatch: Moment("exp_avg_sq", math.inf, monkeypatch), "to be saved"),
    ],
)
def test_a_broken_model_is_put_back_to_the_same_bits(long, monkeypatch, fault, said, step):
    clean = train(long("clean"))
    recipe = long("broken")
    strike(monkeypatch, Once(step, fault(monkeypatch)))
    run = train(recipe)
    assert run.report["artefact"]["sha256"] == clean.report["artefact"]["sha256"]
    assert [each[:4] for each in _line(run)] == [each[:4] for each in _line(clean)]
    (turn,) = run.report["guard"]["went_back"]
    assert said in turn["reason"]
    assert turn["rows"] == []
    assert (turn["to"] > 0) == (step > 3)
    assert _unsound(recipe.output.dir) == []


STEPS = (16, 17, 18)


def test_rows_that_cannot_be_learned_are_left_out(long, monkeypatch, tmp_path):
    recipe = long()
    bad = set(rows_of(recipe, STEPS))
    monkeypatch.undo()
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    strike(monkeypatch, Poison(bad, range(16, 30)))
    report = train(recipe).report
    assert report["status"] == "succeeded"
    (turn,) = report["guard"]["went_back"]
    assert turn["step"] == 19
    assert 0 < turn["to"] < 16
    assert sorted(map(tuple, turn["rows"])) == sorted(bad)
    assert report["guard"]["rows_left_out"] == len(bad)
    assert report["train"]["rejected_steps"] == 3
    # The three steps have no row any more, all later ones fewer than 4 or none of these.
    steps = [step["step"] for step in Timeline.read(Path(recipe.output.dir)).steps]
    assert not {17, 18, 19} & set(steps)
    assert steps[-1] in (29, 30)
    assert "Turns" in (Path(recipe.output.dir) / "report.md").read_text()


class Crash:
    """Ends the process, as it were, in the loss of a step; what is not saved is lost."""

    def __init__(self, step, then):
        self.step, self.then, self.seen = step, then, 0

    def __call__(self, batch, loss, learner):
        if step_now() == self.step and torch.is_grad_enabled():
            self.step = None
            raise KeyboardInterrupt
        return self.then(batch, loss, learner)


@pytest.mark.parametrize("crash", [9, 18, 15, 23, 29])
def test_resumed_around_a_turn_equals_uninterrupted(long, monkeypatch, crash):
    changes = {"checkpoint__keep": 1}
    bad = rows_of(long(), STEPS)
    with monkeypatch.context() as patch:
        strike(patch, Poison(bad, STEPS))
        whole = train(long("whole", **changes))
    assert whole.report["guard"]["returns"] == 1
    recipe = long("parts", **changes)
    # Step 15 comes twice: it is left after the turn, the others when they first come.
    poison = Poison(bad, STEPS)
    fault = Crash(crash, poison)
    if crash in (15, 23, 29):
        fault = _after_turn(recipe, fault, poison)
    strike(monkeypatch, fault)
    with pytest.raises(Interrupted):
        train(recipe)
    parts = resume(recipe.output.dir)
    assert parts.report["artefact"]["sha256"] == whole.report["artefact"]["sha256"]
    assert _line(parts) == _line(whole)
    told = [(each["step"], each["rows"]) for each in parts.report["guard"]["rejected"]]
    assert told == [(each["step"], each["rows"]) for each in whole.report["guard"]["rejected"]]
    assert parts.report["guard"]["went_back"] == whole.report["guard"]["went_back"]


def _after_turn(recipe, crash, calm):
    """`crash` once the run has gone back, `calm` before."""

    def fault(batch, loss, learner):
        events = RunFolder.open(Path(recipe.output.dir)).events
        turned = Timeline.read(events).went_back
        return (crash if turned else calm)(batch, loss, learner)

    return fault


def test_what_does_not_end_fails_as_diverged_with_a_sound_checkpoint(long, monkeypatch):
    recipe = long(train__epochs=2, train__batch_rows=1, train__accumulate=1)
    strike(monkeypatch, _broken_from_20)
    with pytest.raises(RunError, match="a run that diverged.*3 steps in a row") as caught:
        train(recipe)
    assert caught.value.exit_code == 3
    assert "gone back 3 times before" in str(caught.value)
    assert "rows.jsonl:" in str(caught.value)
    folder = RunFolder.open(Path(recipe.output.dir))
    found = latest(folder.checkpoints)
    assert found.quarantined == []
    assert 8 <= found.manifest.step <= 20
    assert _unsound(folder.path) == []
    timeline = Timeline.read(folder.events)
    assert len(timeline.went_back) == 4
    assert timeline.finished[-1]["status"] == "failed"
    with pytest.raises(RunError, match="diverged"):
        resume(folder.path)


def test_more_than_half_of_the_rows_are_not_to_blame(long, monkeypatch):
    strike(monkeypatch, _broken_from_20)
    with pytest.raises(RunError, match="diverged.*gone back 1 time before") as caught:
        train(long())
    assert "of the 24 rows" in str(caught.value)


def _broken_from_20(batch, loss, learner):
    return _loss(batch, loss, learner) if step_now() >= 20 else loss


def _drift(batch, loss, learner):
    """A loss that rises without a jump and without NaN, as of a rate that is far too high."""
    rise = max(0, step_now() - 4) * 0.25
    return LossSum(loss.total + rise * loss.count, loss.count)


def test_a_model_that_got_worse_without_a_jump_does_not_succeed(long, monkeypatch):
    strike(monkeypatch, _drift)
    with pytest.raises(RunError, match="diverged: loss .* on the rows of the first accepted step"):
        train(long())


def test_the_guard_can_be_switched_off_for_all_but_what_is_not_finite(long, monkeypatch):
    with monkeypatch.context() as patch:
        strike(patch, _drift)
        assert train(long("drift", train__guard=False)).report["status"] == "succeeded"
    strike(monkeypatch, Once(11, _loss))
    assert train(long("nan", train__guard=False)).report["train"]["rejected_steps"] == 1


def test_a_last_step_that_ruins_the_model_does_not_succeed(long, monkeypatch):
    strike(monkeypatch, Poison(rows_of(long(), range(30)), range(28, 100)))
    with pytest.raises(RunError, match="diverged"):
        train(long())


def test_what_grew_from_zero_is_told(long):
    run = train(long())
    guard = run.report["guard"]
    assert guard["grown_norm"] > 0
    assert guard["largest_update_norm"] > 0
    looked = [s["grown_norm"] for s in Timeline.read(run.folder.events).steps if s["grown_norm"]]
    assert len(looked) == 4
    assert looked[-1] > looked[0]
    assert not any("has not grown" in warning for warning in run.report["warnings"])


def test_what_does_not_grow_from_zero_is_warned_of(long):
    # Weight decay pulls back all that such a rate adds.
    keys = {"train__learning_rate": 1e-3, "train__weight_decay": 900.0, "train__warmup": 0}
    run = train(long(train__schedule="constant", **keys))
    assert any("has not grown since step 1" in warning for warning in run.report["warnings"])
