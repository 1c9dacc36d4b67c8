"""Replay against forgetting: rows of a file, answers of the base, and where it is refused."""

import json
from pathlib import Path

import pytest

from tunesmith.api import replay
from tunesmith.api.batches import build_schedule
from tunesmith.api.learner import build_base
from tunesmith.api.resolve import resolve
from tunesmith.api.rows import build_rows
from tunesmith.data.order import Schedule
from tunesmith.errors import DataError, RecipeError
from tunesmith.evaluate.probes import general
from tunesmith.recipe import from_dict


@pytest.fixture
def general_rows(tmp_path):
    path = tmp_path / "general.jsonl"
    rows = [{"prompt": f"general {i}", "completion": "as before"} for i in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _rows(recipe):
    """The rows of a recipe and what comes when, without training."""
    recipe = resolve(recipe)
    rows = build_rows(recipe, build_base(recipe))
    return rows, build_schedule(recipe, rows)


def _places(rows, schedule: Schedule, step):
    return [rows.train.place(int(i)) for i in schedule.examples(step)]


def test_the_probe_asks_none_of_the_prompts():
    assert not set(replay.prompts()) & set(general.texts())
    assert len(set(replay.prompts())) == len(replay.prompts()) == 96


def test_every_step_replays_its_share(make, general_rows):
    section = {"share": 0.25, "from": str(general_rows)}
    rows, schedule = _rows(make(data__replay=section, train__batch_rows=4, train__accumulate=1))
    assert rows.num_train == 24
    assert schedule.num_steps == 16  # 24 rows and 8 replayed are 8 steps of 4.
    for step in range(16):
        sources = [source for source, _ in _places(rows, schedule, step)]
        assert sources.count(str(general_rows)) == 1


class _Drawn:
    """Stands for an answer of the base."""

    def __init__(self, text, stopped):
        self.tokens, self.stopped = list(text.encode()), stopped


def test_answers_of_the_base_are_asked_once_and_only_ended_ones_are_kept(make, monkeypatch):
    calls = []

    def answers(model, prompts, options, sampling, times):
        calls.append((len(prompts), times, sampling.temperature))
        return [[_Drawn(f"{n}.{k}", stopped=n % 2 == 0) for k in range(times)] for n in range(96)]

    monkeypatch.setattr(replay, "answers", answers)
    data = make().model_dump(mode="json")
    data["data"]["replay"] = {"share": 0.5, "from": "base", "answers": 100}
    rows, _ = _rows(from_dict(data))
    assert calls == [(96, 2, 1.0)]
    assert rows.replayed.rows == 96
    lines = [json.loads(line) for line in Path(rows.replayed.path).read_text().splitlines()]
    assert lines[0] == {"prompt": replay.prompts()[0], "completion": "0.0"}
    assert lines[48] == {"prompt": replay.prompts()[0], "completion": "0.1"}
    _rows(from_dict(data))
    assert len(calls) == 1


def test_a_base_that_never_ends_is_refused(make, monkeypatch):
    monkeypatch.setattr(replay, "answers", lambda *a: [[_Drawn("x", False)] * 2] * 96)
    with pytest.raises(DataError, match="ended none of its answers within 128 tokens"):
        _rows(make(data__replay={"share": 0.5}))


def test_a_method_that_reads_texts_alone_cannot_replay_answers(make, tmp_path):
    (tmp_path / "a.txt").write_text("some text")
    data = make(data__replay={"share": 0.5}, data__train=str(tmp_path / "a.txt"), data__eval=None)
    plain = data.model_dump(mode="json") | {"method": {"name": "pretrain"}}
    with pytest.raises(RecipeError, match=r"got base, with method\.name: pretrain"):
        _rows(from_dict(plain))


def test_phrasings_and_a_share_held_out_make_a_plan(make, tmp_path):
    path = tmp_path / "labels.jsonl"
    labels = [{"text": f"t{i}", "label": str(i % 3)} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in labels))
    source = {
        "path": str(path),
        "columns": {"completion": "label"},
        "phrasings": ["which: {text}", "{text}?"],
    }
    rows, schedule = _rows(make(data__train=[source], data__eval={"share": 0.2}))
    held = 40 - rows.num_train
    assert 2 <= held <= 16
    assert len(rows.heldout) == 2 * held  # Each in both phrasings.
    assert next(c.ok for c in rows.checks if c.name == "held-out rows apart")
    epoch = schedule.plan(0).order
    assert sorted(schedule.rows_of(epoch).tolist()) == list(range(rows.num_train))
    assert {int(i) % 2 for i in epoch} == {0, 1}
