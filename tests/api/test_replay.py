"""Replay against forgetting: rows of a file, answers of the base, and where it is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from tunesmith.api import replay
from tunesmith.api.train import resume, train
from tunesmith.errors import Interrupted, RecipeError
from tunesmith.evaluate.probes import general
from tunesmith.recipe import from_dict
from tunesmith.runs.timeline import Timeline


@pytest.fixture
def general_rows(tmp_path):
    path = tmp_path / "general.jsonl"
    rows = [{"prompt": f"general {i}", "completion": "as before"} for i in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_probe_asks_none_of_the_prompts():
    assert not set(replay.prompts()) & set(general.texts())
    assert len(set(replay.prompts())) == len(replay.prompts()) == 96


def test_every_step_replays_its_share_and_goes_on_to_the_same_bits(make, general_rows, tmp_path):
    def recipe(name):
        section = {"share": 0.25, "from": str(general_rows)}
        return make(
            data__replay=section, train__batch_rows=4, train__accumulate=1, evaluate__tasks=[],
            output__dir=str(tmp_path / name),
        )  # fmt: skip

    whole = train(recipe("whole"))
    assert whole.report["data"]["rows_train"] == 24
    assert whole.report["train"]["steps"] == 16  # 24 rows and 8 replayed are 8 steps of 4.
    with pytest.raises(Interrupted):
        train(recipe("parts"), until=3)
    parts = resume(tmp_path / "parts")
    assert parts.report["artefact"]["sha256"] == whole.report["artefact"]["sha256"]


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
    data = make(evaluate__tasks=[], train__steps=1, train__epochs=None).model_dump(mode="json")
    data["data"]["replay"] = {"share": 0.5, "from": "base", "answers": 100}
    run = train(from_dict(data))
    assert calls == [(96, 2, 1.0)]
    (path,) = [p for p in run.report["data"]["rows_by_file"] if "replay" in p]
    assert run.report["data"]["rows_by_file"][path] == 96
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert lines[0] == {"prompt": replay.prompts()[0], "completion": "0.0"}
    assert lines[48] == {"prompt": replay.prompts()[0], "completion": "0.1"}
    train(from_dict(data))
    assert len(calls) == 1


def test_a_base_that_never_ends_is_refused(make, monkeypatch):
    monkeypatch.setattr(replay, "answers", lambda *a: [[_Drawn("x", False)] * 2] * 96)
    with pytest.raises(Exception, match="ended none of its answers within 128 tokens"):
        train(make(data__replay={"share": 0.5}))


def test_a_method_that_reads_texts_alone_cannot_replay_answers(make, tmp_path):
    (tmp_path / "a.txt").write_text("some text")
    data = make(data__replay={"share": 0.5}, data__train=str(tmp_path / "a.txt"), data__eval=None)
    plain = data.model_dump(mode="json") | {"method": {"name": "pretrain"}}
    with pytest.raises(RecipeError, match="got base, with method.name: pretrain"):
        train(from_dict(plain))


def test_phrasings_and_a_split_run(make, tmp_path):
    path = tmp_path / "labels.jsonl"
    rows = [{"text": f"t{i}", "label": str(i % 3)} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {
        "path": str(path),
        "columns": {"completion": "label"},
        "phrasings": ["which: {text}", "{text}?"],
    }
    run = train(make(data__train=[source], data__eval={"share": 0.2}, evaluate__tasks=[]))
    data = run.report["data"]
    held = 40 - data["rows_train"]
    assert 2 <= held <= 16
    assert data["rows_eval"] == 2 * held  # Each in both phrasings.
    apart = next(c for c in run.report["contract"] if c["check"] == "held-out rows apart")
    assert apart["ok"]
    steps = Timeline.read(run.folder.events).steps
    assert len(steps) == 2 * int(np.ceil(data["rows_train"] / 4))
