from importlib import import_module

import pytest

from tunesmith.cli.evaluate import run
from tunesmith.errors import CommandError


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "got neither a data file nor --lm-eval; expected one of them"),
        ({"task": "a.jsonl", "lm_eval": "arc_easy"}, "got both TASK and --lm-eval"),
        ({"task": "a.jsonl", "grader": '{"type": '}, "--grader: got no JSON (Expecting value"),
    ],
)
def test_what_cannot_be_scored_is_refused(given, text):
    with pytest.raises(CommandError) as error:
        run("starter", **given)
    assert text in str(error.value)


def test_a_grader_may_be_json(tmp_path, capsys, monkeypatch):
    evaluate = import_module("tunesmith.api.evaluate")
    seen = []
    found = {"task": "a", "n": 2, "score": 0.5, "interval": [0.0, 1.0], "failures": ["a:1: why"]}
    monkeypatch.setattr(evaluate, "evaluate", lambda *given: seen.append(given) or found)
    run("starter", "a.jsonl", grader='{"type": "json_equal", "fields": true}', limit=2)
    assert seen == [("starter", "a.jsonl", {"type": "json_equal", "fields": True}, 256, 2)]
    shown = capsys.readouterr().out
    assert "a: 50.0% on 2 rows (95 % interval 0.0% to 100.0%), grader json_equal" in shown
    assert "1 not graded, first a:1: why" in shown
