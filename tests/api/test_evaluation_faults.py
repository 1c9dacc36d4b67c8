"""An evaluation that fails is skipped and named; it ends no run."""

import json
import os

import pytest
import torch

from tunesmith.api import measures
from tunesmith.api.train import train
from tunesmith.engine.shrink import attempt, out_of_memory
from tunesmith.errors import Interrupted, MachineError
from tunesmith.evaluate.graders import exact
from tunesmith.models.policy import Policy
from tunesmith.runs.timeline import Timeline
from tunesmith.testing.faulty import leave_out_export

OOM = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
]


CALLS = range(1, 1 + int(os.environ.get("TUNESMITH_FAULTS", "0"))) or (1, 3)
"""Calls that fail, one run each; TUNESMITH_FAULTS=100 tries the first hundred."""


class Fails:
    """Raises at some of its calls, and else does what it stands for.

    Args:
        good: What it stands for.
        at: Numbers of the calls that fail, from 1; None for all.
        error: What is raised.
    """

    def __init__(self, good, at, error):
        self.good, self.at, self.error, self.calls = good, at, error, 0

    def __call__(self, *given, **named):
        self.calls += 1
        if self.at is None or self.calls in self.at:
            raise self.error
        return self.good(*given, **named)


@pytest.fixture
def quick(make, monkeypatch):
    """6 steps, measured before, between and after, everything there is to measure."""
    leave_out_export(monkeypatch)
    measured = {"evaluate__every": 3, "evaluate__probes": ["general"]}
    return make(train__epochs=1, evaluate__forgetting_budget=5.0, **measured)


def _generation(monkeypatch, at, error):
    monkeypatch.setattr(measures, "generate", Fails(measures.generate, at, error))


def _heldout(monkeypatch, at, error):
    monkeypatch.setattr(measures, "heldout_loss", Fails(measures.heldout_loss, at, error))


def _features(monkeypatch, at, error):
    fails = Fails(Policy.features, at, error)
    monkeypatch.setattr(Policy, "features", lambda self, batch: fails(self, batch))


PLACES = [_generation, _heldout, _features]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("place", PLACES)
def test_an_error_at_any_call_loses_no_run(quick, monkeypatch, place, call):
    place(monkeypatch, {call}, RuntimeError(f"broken at call {call}"))
    report = train(quick).report
    assert report["status"] == "succeeded"
    told = [warning for warning in report["warnings"] if f"broken at call {call}" in warning]
    # A call that is never made cannot fail: of the held-out loss there are three.
    assert len(told) == bool(report["skipped"])
    assert told or call > 3


@pytest.mark.parametrize("place", PLACES)
def test_too_little_memory_once_halves_the_batch_and_skips_nothing(quick, monkeypatch, place):
    place(monkeypatch, {3 if place is _features else 2}, OOM[2])
    report = train(quick).report
    assert report["status"] == "succeeded"
    assert report["skipped"] == []
    assert all(report[measure] for measure in ("forgetting", "task", "eval_loss"))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [OOM[1], ValueError("always")])
def test_a_measure_that_always_fails_is_skipped_and_the_run_succeeds(
    quick, monkeypatch, place, error
):
    place(monkeypatch, None, error)
    report = train(quick).report
    assert report["status"] == "succeeded"
    named = {measure for each in report["skipped"] for measure in each["measures"]}
    expected = {
        _generation: {"task rows", "probe general"},
        _heldout: {"held-out loss"},
        _features: {"probe general"},
    }
    assert named == expected[place]
    assert {each["step"] for each in report["skipped"]} == {0, 3, 6}
    missing = {_generation: "task", _heldout: "eval_loss", _features: "forgetting"}
    assert report[missing[place]] is None


def test_a_full_disk_and_a_user_who_stops_are_no_fault_of_the_measure(quick, monkeypatch):
    for error in (MachineError("disk", got="no space left"), KeyboardInterrupt()):
        with monkeypatch.context() as patch:
            _heldout(patch, {2}, error)
            with pytest.raises((MachineError, Interrupted)):
                train(quick)


def test_a_grader_that_raises_scores_0_and_names_its_rows(quick, monkeypatch):
    calls = []

    def grade(config, output, reference, row):
        calls.append(1)
        # The first four calls ask whether the rows can be graded at all.
        if len(calls) > 4 and len(calls) % 4 == 2:
            raise AttributeError("no such thing")
        return float("nan") if len(calls) > 4 and len(calls) % 4 == 3 else 1.0

    monkeypatch.setattr(exact, "grade", grade)
    run = train(quick)
    report = run.report
    assert report["status"] == "succeeded"
    assert report["task"]["after"] == pytest.approx(0.5)
    failed = report["task"]["ungraded"]
    assert [each["place"].rpartition(":")[2] for each in failed] == ["2", "3"]
    assert failed[0]["reason"] == "no such thing"
    assert "a score of nan" in failed[1]["reason"]
    assert any("the grader failed on 2 of 4 rows" in warning for warning in report["warnings"])
    last = Timeline.read(run.folder.events).evaluations[-1]
    assert last["tasks"][0]["ungraded"] == 2
    details = json.loads((run.path / "evaluations" / "step-6.json").read_text())
    assert len(details["tasks"][0]["failures"]) == 2


class Rows:
    """So many rows side by side."""

    def __init__(self, rows):
        self.rows = rows

    def smaller(self):
        return Rows(self.rows // 2) if self.rows > 1 else None


@pytest.mark.parametrize("room", range(1, 9))
def test_pieces_are_halved_until_they_fit(room):
    tried = []

    def measure(rows):
        tried.append(rows.rows)
        if rows.rows > room:
            raise OOM[1]
        return "measured"

    result, rows = attempt(Rows(8), measure)
    assert result == "measured"
    assert rows.rows == tried[-1] == max(n for n in (8, 4, 2, 1) if n <= room)
    assert tried == [n for n in (8, 4, 2, 1) if n >= rows.rows]


def test_single_rows_that_do_not_fit_and_other_errors_are_raised():
    for error, tries in ((OOM[0], 4), (ValueError("x"), 1)):
        fails = Fails(None, None, error)
        with pytest.raises(type(error)):
            attempt(Rows(8), fails)
        assert fails.calls == tries


def test_what_is_out_of_memory():
    assert all(map(out_of_memory, OOM))
    assert not out_of_memory(RuntimeError("shapes do not match"))
    assert not out_of_memory(ValueError("out of memory"))
