"""The command line as a user meets it: exit codes, messages, one JSON object."""

import json
import subprocess
import sys
import warnings

import pytest

from tunesmith.cli.main import main
from tunesmith.recipe import to_yaml


@pytest.fixture
def recipe_path(make, tmp_path):
    """The tiny recipe as a file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(make()))
    return path


def _tunesmith(*args):
    command = [sys.executable, "-m", "tunesmith.cli.main", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture
def here(monkeypatch, capfd):
    """The same in this process, which has imported torch already: that takes four seconds."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["tunesmith", *map(str, args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended, warnings.catch_warnings():
            main()
        out = capfd.readouterr()
        return subprocess.CompletedProcess(args, ended.value.code, out.out, out.err)

    return run


def test_a_run_by_hand_from_plan_to_export(recipe_path, make, tmp_path):
    run = make().output.dir
    plan = _tunesmith("plan", recipe_path, "--json")
    assert json.loads(plan.stdout)["num_steps"] == 12, plan.stderr
    preview = _tunesmith("preview", recipe_path, "-n", "1")
    assert "⟦" in preview.stdout, preview.stderr
    trained = _tunesmith("train", recipe_path, "--json")
    assert json.loads(trained.stdout)["status"] == "succeeded", trained.stderr
    assert "step" in trained.stderr
    listed = json.loads(_tunesmith("runs", tmp_path / "runs", "--json").stdout)
    assert [r["status"] for r in listed["runs"]] == ["succeeded"]
    assert _tunesmith("report", run).returncode == 0
    exported = json.loads(_tunesmith("export", run, "--json").stdout)
    assert exported["certificate"]["ok"] is True
    again = _tunesmith("export", run)
    assert (again.returncode, "already" in again.stderr) == (2, True)
    options = ["-m", "say x", "--max-new-tokens", "4", "--compare", "base", "--json"]
    chat = _tunesmith("chat", run, *options)
    assert set(json.loads(chat.stdout)) == {"message", "answer", "base"}, chat.stderr


@pytest.mark.parametrize(
    ("override", "code", "text"),
    [
        ("train.learning_rat=1", 2, "hint: did you mean learning_rate?"),
        ("train.epochs=two", 2, "train.epochs: got 'two' (str)"),
        ("data.train=missing.jsonl", 2, "which is no file"),
        ("model.base=no/such/folder/here", 2, "model.base: got 'no/such/folder/here'"),
        ("data.max_tokens=100000", 2, "what this base can see at once"),
        ("adapter.targets=[c_attn]", 2, "adapter.targets: got 'c_attn'"),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_and_hint(here, recipe_path, override, code, text):
    done = here("train", recipe_path, override)
    assert text in done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_errors_are_json_too_when_asked(recipe_path):
    done = _tunesmith("train", recipe_path, "trian.epochs=1", "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "RecipeError"
    assert error["hint"] == "did you mean train?"


@pytest.mark.parametrize("verb", ["resume", "report", "export"])
def test_a_folder_that_is_no_run(here, verb, tmp_path):
    done = here(verb, tmp_path)
    assert done.returncode == 2
    assert "got a folder without a run" in done.stderr


def test_unknown_verbs_and_options_exit_with_2():
    for args in (["trian"], ["train"], ["train", "x", "--nope"]):
        done = _tunesmith(*args)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_the_schema_is_printed(here):
    assert json.loads(here("schema").stdout)["title"] == "Tunesmith recipe"
