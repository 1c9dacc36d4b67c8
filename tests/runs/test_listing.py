"""The list of runs says what each one is doing."""

import json
import subprocess
import sys

import pytest

from tunesmith.runs.folder import RunFolder
from tunesmith.runs.listing import list_runs, summarise


def put(folder, *events: dict):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "events.jsonl").open("a") as file:
        for second, event in enumerate(events):
            time = event.pop("time", f"2026-11-23T10:00:{second:02}.000Z")
            file.write(json.dumps({"time": time, **event}) + "\n")
    return RunFolder(folder)


def started(resumed_from: int | None = None, **rest) -> dict:
    return {"event": "started", "resumed_from": resumed_from, **rest}


def evaluated(step: int, **scores: float) -> dict:
    tasks = [{"name": name, "n": 5, "score": score} for name, score in scores.items()]
    return {"event": "evaluated", "step": step, "tasks": tasks}


def saved(step: int, best: bool) -> dict:
    return {"event": "saved", "step": step, "best": best}


def test_a_finished_run_at_a_glance(tmp_path):
    run = put(
        tmp_path / "run",
        started(),
        {"event": "planned", "num_steps": 40},
        evaluated(0, tickets=0.25, other=0.9),
        {"event": "step", "step": 40},
        evaluated(40, tickets=0.75, other=0.8),
        saved(40, best=True),
        {"event": "finished", "status": "succeeded"},
    )
    summary = summarise(run)
    assert (summary.name, summary.path, summary.status) == ("run", run.path, "succeeded")
    assert (summary.step, summary.num_steps) == (40, 40)
    assert (summary.score_name, summary.score_before, summary.score_after) == (
        "tickets",
        0.25,
        0.75,
    )
    assert summary.started == "2026-11-23T10:00:00.000Z"
    assert summary.seconds == 6.0


@pytest.mark.parametrize(
    ("events", "before", "after"),
    [
        ([], None, None),
        ([evaluated(0)], None, None),
        ([evaluated(0, t=0.1)], 0.1, None),
        ([evaluated(5, t=0.2)], None, 0.2),
        ([evaluated(0, t=0.1), evaluated(5, t=0.9), evaluated(9, t=0.3)], 0.1, 0.3),
        ([evaluated(0, t=0.1), evaluated(5, t=0.9), saved(5, True), evaluated(9, t=0.3)], 0.1, 0.9),
        ([evaluated(0, t=0.1), evaluated(9, t=0.3), saved(5, True)], 0.1, 0.3),
        ([evaluated(0, t=0.1), evaluated(5, t=0.9), saved(5, False)], 0.1, 0.9),
        ([evaluated(0, t=0.1), evaluated(8, t=0.9), started(5)], 0.1, None),
    ],
)
def test_the_score_after_is_that_of_the_best_checkpoint_or_else_the_last(
    tmp_path, events, before, after
):
    summary = summarise(put(tmp_path / "run", started(), *events))
    assert (summary.score_before, summary.score_after) == (before, after)


@pytest.mark.parametrize("status", ["succeeded", "failed", "interrupted"])
def test_the_status_is_what_the_run_said(tmp_path, status):
    run = put(tmp_path / "run", started(), {"event": "finished", "status": status})
    assert summarise(run).status == status


def test_a_run_that_was_killed_is_stopped(tmp_path):
    run = put(tmp_path / "run", started(), {"event": "step", "step": 3})
    (run.path / ".lock").write_text("1\n")
    assert summarise(run).status == "stopped"


def test_a_run_that_a_live_process_holds_is_running(tmp_path):
    run = put(tmp_path / "run", {"event": "finished", "status": "interrupted"}, started(3))
    with run.hold():
        assert summarise(run).status == "running"
    assert summarise(run).status == "stopped"


def test_a_held_run_is_running_until_its_process_is_killed(tmp_path):
    run = put(tmp_path / "run", started())
    code = (
        "import sys, time; from tunesmith.runs.folder import RunFolder\n"
        "with RunFolder.open(sys.argv[1]).hold(): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        assert summarise(run).status == "running"
        assert run.holder() == process.pid
        process.kill()
        process.wait()
    assert summarise(run).status == "stopped"


def test_a_run_without_events_yet_has_no_figures(tmp_path):
    (tmp_path / "events.jsonl").touch()
    summary = summarise(RunFolder(tmp_path))
    assert (summary.step, summary.num_steps, summary.score_name) == (0, None, None)
    assert (summary.started, summary.seconds, summary.status) == (None, 0.0, "stopped")


def test_runs_are_found_here_and_below_the_latest_first(tmp_path):
    for day, place in ((21, "a"), (23, "group/b"), (22, "a.1"), (20, ".")):
        put(tmp_path / place, started(time=f"2026-11-{day}T10:00:00.000Z"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.jsonl").touch()
    (tmp_path / "a file").touch()
    runs = list_runs(tmp_path)
    assert [run.name for run in runs] == ["b", "a.1", "a", tmp_path.name]


@pytest.mark.parametrize("root", ["missing", "empty"])
def test_no_runs_make_an_empty_list(tmp_path, root):
    (tmp_path / "empty").mkdir()
    assert list_runs(tmp_path / root) == []


def test_a_torn_last_line_does_not_hide_a_run(tmp_path):
    run = put(tmp_path / "run", started(), {"event": "step", "step": 3})
    with run.events.open("a") as file:
        file.write('{"time": "2026-11-23T10:00:09.000Z", "event": "st')
    assert [summary.step for summary in list_runs(tmp_path)] == [3]
