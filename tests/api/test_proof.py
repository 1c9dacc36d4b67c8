"""The parts of `prove`: where it cuts, how it compares, what it says when it cannot."""

import json
from dataclasses import replace
from importlib import import_module
from signal import SIGKILL

import pytest

import tunesmith.cli.main as command_line
from tunesmith.api.proof.compare import COUNTERS, EVALUATIONS, LOSSES, OPTIMIZER, ORDER, compare
from tunesmith.api.proof.miniature import cut, measured, plain
from tunesmith.api.proof.sessions import fresh_process
from tunesmith.api.proof.trace import Trace
from tunesmith.cli.killed import watch
from tunesmith.errors import CommandError, MachineError
from tunesmith.recipe import to_yaml
from tunesmith.runs.folder import RunFolder
from tunesmith.runs.report.proof import proof
from tunesmith.testing.fake_run import fake_run

proving = import_module("tunesmith.api.prove")  # As an attribute of the package it is the verb.


@pytest.mark.parametrize(
    ("num_steps", "epoch_steps", "asked", "steps", "first"),
    [
        (1000, 500, None, 6, 2),
        (18, 6, None, 7, 2),  # Past the end of the first epoch.
        (18, 8, None, 9, 3),
        (18, 9, None, 6, 2),
        (12, 2, None, 6, 3),  # Two steps would be a whole epoch.
        (4, 4, None, 4, 1),
        (2, 1, None, 2, 1),
        (1000, 500, 30, 30, 10),
    ],
)
def test_where_it_is_cut(num_steps, epoch_steps, asked, steps, first):
    where = cut(num_steps, epoch_steps, asked)
    assert (where.steps, where.first) == (steps, first)
    assert where.second <= where.steps


@pytest.mark.parametrize(
    ("num_steps", "asked", "message"),
    [(1, None, "a run of one step"), (5, 6, "--steps: got 6; expected 2 to 5"), (5, 1, "got 1")],
)
def test_too_few_steps_are_refused(num_steps, asked, message):
    with pytest.raises(CommandError, match=message):
        cut(num_steps, 3, asked)


def test_the_miniature_changes_nothing_that_trains(make):
    whole, where = (
        make(evaluate__probes=["general"], evaluate__forgetting_budget=1.0),
        cut(12, 6, 6),
    )
    for small in (measured(whole, where, 24), plain(whole, where)):
        assert small.train == whole.train
        assert (small.model, small.adapter, small.method) == (
            whole.model,
            whole.adapter,
            whole.method,
        )
        assert small.data == whole.data.model_copy(update={"eval": None})
        assert small.checkpoint.every == 2
    tasks = measured(whole, where, 24).evaluate.tasks
    assert [(task.limit, task.max_new_tokens) for task in tasks] == [(2, 4)]
    untested = make(evaluate__tasks=[])
    assert measured(untested, where, 64).data.eval == whole.data.eval
    assert measured(untested, where, 65).data.eval is None


STEP = {
    "step": 1,
    "digest": "aa",
    "learning_rate": 0.1,
    "seed": 7,
    "loss": 2.0,
    "grad_norm": 1.0,
    "tokens": 5,
    "tokens_trained": 3,
    "rejected": False,
}
TRACE = Trace(
    steps=[STEP, {**STEP, "step": 2, "loss": float("nan"), "digest": "bb"}],
    weights={"a": "1", "b": "2"},
    optimizer={"a/exp_avg": "1"},
    options={"groups": [{"lr": 0.1}]},
    counters={"step": 2, "counters": {"rejected": 1}},
    evaluations=[{"step": 0, "loss": 1.0}],
)


class Told:
    """Stands for the plan: a digest is its own name."""

    def told(self, digest, step):
        return f"rows of {digest}"


@pytest.mark.parametrize(
    ("changed", "kind", "text"),
    [
        (
            {"steps": [STEP, {**STEP, "step": 2, "loss": float("nan"), "digest": "cc"}]},
            ORDER,
            "step 2: rows of cc, where the first run had rows of bb",
        ),
        ({"steps": [STEP]}, ORDER, "steps [1] where the first run had [1, 2]"),
        (
            {"steps": [{**STEP, "loss": 2.0000000001}, TRACE.steps[1]]},
            LOSSES,
            "step 1: loss 2.0000000001 where the first run had 2.0",
        ),
        ({"weights": {"a": "1", "b": "3"}}, "weights", "b has other bits"),
        ({"weights": {"a": "1"}}, "weights", "b is missing"),
        ({"optimizer": {"a/exp_avg": "1", "c": "1"}}, OPTIMIZER, "c is new"),
        (
            {"options": {"groups": [{"lr": 0.2}]}},
            OPTIMIZER,
            'optimizer.groups.0.lr: "0.1" -> "0.2"',
        ),
        (
            {"counters": {"step": 2, "counters": {"rejected": 0}}},
            COUNTERS,
            'counters.counters.rejected: "1" -> "0"',
        ),
        (
            {"evaluations": []},
            EVALUATIONS,
            "evaluations of steps [] where the first run had those of [0]",
        ),
    ],
)
def test_each_difference_is_named(changed, kind, text):
    assert compare(TRACE, TRACE, Told()) == {}
    assert compare(TRACE, replace(TRACE, **changed), Told()) == {kind: text}


def test_a_process_that_ends_otherwise_is_an_error_with_its_last_words(make, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(to_yaml(make()))

    def full_disk(module, arguments, log):
        log.write_text("error: No space left on device")
        return 4

    expected = r"exit code 4: error: No space left on device; expected exit code 130"
    with pytest.raises(MachineError, match=expected):
        proving.prove(tmp_path / "run", launch=full_disk)
    assert not list((tmp_path / "run" / "proof").iterdir())


def test_changed_rows_are_refused_before_anything_is_trained(make, rows, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(to_yaml(make()))
    base = {"id": "", "sha256": "", "revision": "", "quantize": ""}
    lock = {"base": base, "data": {}, "versions": {}, "machine": {}}
    (tmp_path / "run" / "lock.json").write_text(json.dumps(lock))
    with pytest.raises(CommandError, match="got another base than the run began with"):
        proving.prove(tmp_path / "run", launch=None)


def test_a_fresh_process_leaves_its_words_and_its_code(tmp_path):
    log = tmp_path / "words"
    assert fresh_process("json.tool", ["/nowhere"], log) != 0
    assert "/nowhere" in log.read_text()


@pytest.mark.parametrize(
    ("moment", "heard"),
    [
        ("inside", [("os.rename", ("/tmp/a", "/run/checkpoints/step-4", -1, -1))]),
        (
            "after",
            [
                ("open", ("/run/events.jsonl", "a", 0)),
                ("os.rename", ("/tmp/a", "/run/checkpoints/step-4", -1, -1)),
                ("open", ("/run/checkpoints", None, 0)),
                ("open", ("/run/events.jsonl", "a", 0)),
            ],
        ),
    ],
)
def test_the_kill_comes_at_the_last_of_these_moments(moment, heard):
    killed = []
    hear = watch(moment, "/run/checkpoints/step-4", lambda: killed.append(SIGKILL))
    hear("os.rename", ("/tmp/a", "/run/checkpoints/step-2", -1, -1))
    for event, about in heard:
        assert not killed
        hear(event, about)
    assert killed == [SIGKILL]


CERTIFICATE = {
    "ok": False,
    "steps": 6,
    "num_steps": 250,
    "killed": [{"step": 4, "when": "inside the save", "resumed_from": 2}],
    "claims": [
        {"says": "killed and resumed: the same weights", "ok": False, "figure": "b has other bits"}
    ],
    "seconds": 80.0,
    "differences": ["killed and resumed, weights: b has other bits"],
}


def test_the_report_includes_the_certificate(tmp_path):
    folder = RunFolder(fake_run(tmp_path / "run").path)
    proving._report(folder, CERTIFICATE)
    assert json.loads(folder.report_json.read_text())["proof"] == CERTIFICATE
    for page in (folder.report_md, folder.report_html):
        text = page.read_text()
        assert "Proof of resume" in text
        assert "b has other bits" in text
        assert "killed inside the save of step 4 and resumed from step 2" in text


def test_without_a_proof_there_is_no_chapter():
    assert proof({"proof": None}) is None


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 3)])
@pytest.mark.parametrize("json_too", [True, False])
def test_the_verb_says_it_and_exits_with_it(monkeypatch, capsys, ok, code, json_too):
    monkeypatch.setattr(proving, "prove", lambda *given: {**CERTIFICATE, "ok": ok})
    monkeypatch.setattr("sys.argv", ["tunesmith", "prove", "run", *["--json"] * json_too])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == code
    said = capsys.readouterr().out
    if json_too:
        assert json.loads(said) == {"run": "run", **CERTIFICATE, "ok": ok}
    else:
        assert said.rstrip().endswith("proven" if ok else "not proven")
