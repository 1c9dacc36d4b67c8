"""Only the surviving line of a run is told."""

import pytest

from tunesmith.runs.timeline import Timeline


def record(kind: str, seconds: float = 0.0, **rest) -> dict:
    minutes, rest_seconds = divmod(seconds, 60)
    time = f"2026-11-23T10:{int(minutes):02}:{rest_seconds:06.3f}Z"
    return {"event": kind, "time": time, **rest}


def step(number: int, loss: float = 1.0) -> dict:
    return record("step", step=number, loss=loss)


def started(resumed_from: int | None = None, seconds: float = 0.0) -> dict:
    return record("started", seconds, resumed_from=resumed_from)


def numbers(records: list[dict]) -> list[int]:
    return [told["step"] for told in records]


def test_a_run_without_interruption_is_told_as_it_was():
    timeline = Timeline.of(
        [
            started(),
            record("planned", num_steps=3),
            record("evaluated", step=0),
            step(1),
            step(2),
            record("warned", message="w"),
            record("saved", step=2),
            step(3),
            record("evaluated", step=3),
            record("phase", name="exporting"),
            record("finished", status="succeeded"),
        ]
    )
    assert numbers(timeline.steps) == [1, 2, 3]
    assert numbers(timeline.evaluations) == [0, 3]
    assert numbers(timeline.saved) == [2]
    assert [warning["message"] for warning in timeline.warnings] == ["w"]
    assert timeline.planned[-1]["num_steps"] == 3
    assert len(timeline.started) == 1
    assert timeline.finished[-1]["status"] == "succeeded"


def test_a_resume_supersedes_what_came_after_its_checkpoint():
    before = [started(), *(step(n, loss=1.0) for n in range(1, 9))]
    before += [record("evaluated", step=n, loss=1.0) for n in (0, 4, 8)]
    before += [record("saved", step=n) for n in (4, 8)]
    after = [started(4), step(5, loss=2.0), step(6, loss=2.0)]
    timeline = Timeline.of(before + after)
    assert numbers(timeline.steps) == [1, 2, 3, 4, 5, 6]
    assert [told["loss"] for told in timeline.steps] == [1.0] * 4 + [2.0] * 2
    assert numbers(timeline.evaluations) == [0, 4]
    assert numbers(timeline.saved) == [4]


def test_each_resume_counts_on_its_own():
    events = [started(), step(1), step(2), step(3)]
    events += [started(2), step(3, 2.0), step(4, 2.0)]
    events += [started(1), step(2, 3.0)]
    timeline = Timeline.of(events)
    assert [(told["step"], told["loss"]) for told in timeline.steps] == [(1, 1.0), (2, 3.0)]
    assert len(timeline.started) == 3


def test_a_start_from_the_base_supersedes_everything():
    timeline = Timeline.of(
        [started(), record("evaluated", step=0), step(1), record("saved", step=1), started(None)]
    )
    assert (timeline.steps, timeline.evaluations, timeline.saved) == ([], [], [])


def test_an_evaluation_told_twice_counts_once_with_its_last_figures():
    events = [started(), record("evaluated", step=4, loss=1.0), started(4)]
    timeline = Timeline.of([*events, record("evaluated", step=4, loss=2.0)])
    assert [told["loss"] for told in timeline.evaluations] == [2.0]


def test_a_resumed_run_is_not_finished():
    events = [started(), step(1), record("finished", status="interrupted"), started(1)]
    assert Timeline.of(events).finished == []
    events.append(record("finished", status="succeeded"))
    assert [told["status"] for told in Timeline.of(events).finished] == ["succeeded"]


@pytest.mark.parametrize(
    ("sessions", "seconds"),
    [([], 0.0), ([(0, 10.5)], 10.5), ([(0, 10), (100, 130)], 40.0), ([(50, 20)], 0.0)],
)
def test_time_is_that_of_the_sessions_without_the_pauses(sessions, seconds):
    events = []
    for begin, end in sessions:
        events += [started(0, begin), record("warned", end, message="")]
    assert Timeline.of(events).seconds == seconds


def test_reading_takes_the_file_or_its_folder_and_leaves_a_torn_line_out(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text(
        '{"time": "2026-11-23T10:00:00Z", "event": "started", "resumed_from": null}\n'
        '{"time": "2026-11-23T10:00:01Z", "event": "step", "step": 1}\n'
        '{"time": "2026-11-23T10:00:02Z", "event": "step", "st'
    )
    for place in (path, tmp_path, str(path)):
        assert numbers(Timeline.read(place).steps) == [1]
        assert Timeline.read(place).seconds == 1.0


def test_a_run_without_events_is_empty(tmp_path):
    timeline = Timeline.read(tmp_path / "events.jsonl")
    assert (timeline.steps, timeline.started, timeline.seconds) == ([], [], 0.0)


def rejected(number: int) -> dict:
    return {**step(number), "rejected": True}


def went_back(number: int, to: int) -> dict:
    return record("wentback", step=number, to=to)


def test_going_back_voids_steps_and_keeps_why():
    events = [started(), *map(step, (1, 2, 3, 4)), record("saved", step=2), record("saved", step=4)]
    events += [record("evaluated", step=4), rejected(5), rejected(6), went_back(6, 2), step(3)]
    timeline = Timeline.of(events)
    assert numbers(timeline.steps) == [1, 2, 3]
    assert (numbers(timeline.saved), timeline.evaluations) == ([2], [])
    assert numbers(timeline.rejected) == [5, 6]
    assert numbers(timeline.went_back) == [6]


def test_a_resume_keeps_of_the_guard_what_its_checkpoint_knew():
    before = [
        started(),
        rejected(1),
        step(2),
        record("saved", step=2),
        rejected(3),
        went_back(3, 2),
    ]
    again = [rejected(3), went_back(3, 2), step(4), record("saved", step=4), rejected(5)]
    assert numbers(Timeline.of([*before, started(2)]).rejected) == [1]
    timeline = Timeline.of([*before, started(2), *again, started(4)])
    assert numbers(timeline.rejected) == [1, 3]
    assert numbers(timeline.went_back) == [3]
    assert Timeline.of([*before, started(None)]).rejected == []
