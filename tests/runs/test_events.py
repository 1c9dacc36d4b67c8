"""Events survive killed writers, odd text and numbers that JSON cannot say."""

import json
import math
from dataclasses import fields

import pytest

from tunesmith.runs.events import (
    KINDS,
    Evaluated,
    EventWriter,
    Finished,
    Forgetting,
    Saved,
    Started,
    Step,
    TaskScore,
    Warned,
    read_events,
)


def step(number: int, **changes) -> Step:
    told = {
        "step": number,
        "epoch": 0.1,
        "loss": 2.0,
        "learning_rate": 1e-4,
        "grad_norm": 1.0,
        "tokens": 100,
        "tokens_trained": 50,
        "seconds": 0.5,
        "memory_gib": 1.0,
    }
    return Step(**{**told, **changes})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


@pytest.fixture
def notice(path):
    return EventWriter(path).notice


def test_events_come_back_in_order_with_kind_and_time(path, notice):
    notice(Started(pid=1, version="0.1"))
    notice(step(1, rows=(("data.jsonl", 3),), rejected=True))
    notice(Saved(step=1, path="checkpoints/step-1", best=True))
    started, first, saved = read_events(path)
    assert started["event"] == "started"
    assert started["resumed_from"] is None
    assert started["time"].endswith("Z")
    assert first["rows"] == [["data.jsonl", 3]]
    assert saved["best"] is True


def test_each_kind_has_its_name():
    assert {name: kind.__name__ for name, kind in KINDS.items()} == {
        "started": "Started",
        "planned": "Planned",
        "phase": "Phase",
        "step": "Step",
        "wentback": "WentBack",
        "evaluated": "Evaluated",
        "saved": "Saved",
        "warned": "Warned",
        "finished": "Finished",
    }


def test_no_field_hides_the_time_or_the_kind():
    assert not {part.name for kind in KINDS.values() for part in fields(kind)} & {"time", "event"}


def test_a_missing_file_has_no_events(path):
    assert list(read_events(path)) == []


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_torn_last_line_is_left_out_and_spoils_no_later_event(path, notice, cut):
    notice(Warned("first"))
    notice(Warned("zweite Warnung: größer, 大きい"))
    path.write_bytes(path.read_bytes()[:-cut])
    told = [event["message"] for event in read_events(path)]
    assert told[:1] == ["first"]
    # Only the newline is gone: the line still counts.
    assert len(told) == (2 if cut == 1 else 1)
    notice(Finished("succeeded"))
    assert [event["event"] for event in read_events(path)][-1] == "finished"
    assert len(list(read_events(path))) == len(told) + 1


def test_zeros_after_a_power_cut_are_left_out(path, notice):
    notice(Warned("first"))
    with path.open("ab") as file:
        file.write(b"\x00" * 512)
    notice(Warned("second"))
    assert [event["message"] for event in read_events(path)] == ["first", "second"]


@pytest.mark.parametrize("line", ["7", "[]", "null", '"text"', "{}", '{"event": "unheard of"}'])
def test_lines_that_are_no_events_are_left_out(path, notice, line):
    path.write_text(line + "\n")
    notice(Warned("first"))
    assert [event["message"] for event in read_events(path)] == ["first"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_null_in_the_file_and_nan_when_read(path, notice, value):
    notice(step(1, loss=value, grad_norm=value))
    notice(Evaluated(2, value, (TaskScore("t", 3, 0.5),), Forgetting(value, 1.0), 0.5))
    notice(Evaluated(3, None, (), None, 0.5))

    def refuse(name):
        pytest.fail(f"{name} is not JSON")

    lines = [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]
    assert lines[0]["loss"] is None
    first, second, third = read_events(path)
    assert math.isnan(first["loss"])
    assert math.isnan(first["grad_norm"])
    assert first["seconds"] == 0.5
    assert math.isnan(second["forgetting"]["kl"])
    assert second["forgetting"]["loss"] == 1.0
    # A held-out loss may be missing, so that null stays null.
    assert second["loss"] is None
    assert third["forgetting"] is None


def test_a_file_name_that_is_not_utf8_is_told(path, notice):
    notice(Warned("bad row in caf\udce9.jsonl"))
    assert [event["message"] for event in read_events(path)] == ["bad row in caf\udce9.jsonl"]


def test_separators_inside_a_text_do_not_split_the_line(path, notice):
    text = "a\nb\r\nc\u2028d\u0085e\x00"
    notice(Warned(text))
    assert [event["message"] for event in read_events(path)] == [text]
