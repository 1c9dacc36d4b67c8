"""Observers that break are dropped once, named, and break nothing."""

import json

from tunesmith.engine.observers import Observers
from tunesmith.runs.events import EventWriter, Phase


class Broken:
    """An observer that raises whenever it is told something."""

    def __init__(self, error):
        self.error, self.told = error, 0

    def notice(self, event):
        self.told += 1
        raise self.error


class Unspeakable(Exception):
    def __repr__(self):
        raise RuntimeError("not even this works")


class Good:
    def __init__(self):
        self.told = []

    def notice(self, event):
        self.told.append(type(event).__name__)


def test_several_that_break_are_each_dropped_once(tmp_path):
    broken = [Broken(OSError("down")), Broken(Unspeakable()), Broken(ValueError("x"))]
    good = Good()
    watch = Observers(EventWriter(tmp_path / "events.jsonl"), [*broken, good])
    for _ in range(5):
        watch.notice(Phase("training"))
    assert [each.told for each in broken] == [1, 1, 1]
    assert good.told.count("Phase") == 5
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    dropped = [line["message"] for line in lines if line["event"] == "warned"]
    assert len(dropped) == 3
    assert any("OSError('down')" in each for each in dropped)
    assert any("Unspeakable" in each for each in dropped)
