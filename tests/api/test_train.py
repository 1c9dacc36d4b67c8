"""A run from rows to a proven artefact, and its laws: same bits, resumed or not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM

import tunesmith
from tunesmith.api.train import resume, train
from tunesmith.checkpoint.verify import verify
from tunesmith.errors import CommandError, Interrupted, RunError
from tunesmith.recipe import to_yaml
from tunesmith.runs.timeline import Timeline


class StopAt:
    """Asks for an end at a step, as Ctrl-C does; in time for the loop to see it."""

    def __init__(self, step):
        self.step = step

    def notice(self, event):
        if type(event).__name__ == "Step" and event.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_run_leaves_its_proofs(make):
    run = train(make())
    report = run.report
    assert report["status"] == "succeeded"
    assert report["train"]["steps"] == 12
    assert report["data"]["rows_train"] == 24
    assert report["certificate"]["ok"]
    assert report["certificate"]["max_logit_difference"] == 0.0
    assert report["adapter"]["targeted"]
    assert all(check["ok"] for check in report["contract"] if "stop" in check["check"])
    assert report["eval_loss"]["after"] < report["eval_loss"]["before"]
    assert report["task"]["n"] == 4
    names = {path.name for path in run.path.iterdir()}
    assert {"recipe.yaml", "lock.json", "events.jsonl", "report.md", "report.html"} <= names
    assert "step-12" in {path.name for path in (run.path / "checkpoints").iterdir()}


def test_the_same_recipe_gives_the_same_bits_and_the_old_run_is_kept(make):
    first = train(make()).report["artefact"]["sha256"]
    second = train(make())
    assert second.report["artefact"]["sha256"] == first
    assert (second.path.parent / "tiny.1" / "report.json").is_file()


def test_another_seed_gives_other_bits(make):
    first = train(make()).report["artefact"]["sha256"]
    assert train(make(train__seed=1)).report["artefact"]["sha256"] != first


@pytest.mark.parametrize("adapter", [{"name": "lora", "rank": 4, "dropout": 0.1}, {"name": "full"}])
@pytest.mark.parametrize("step", [1, 5, 6, 7, 11])
def test_stopped_and_resumed_equals_uninterrupted(make, tmp_path, adapter, step):
    recipe = make()
    data = recipe.model_dump(mode="json")
    data["adapter"] = adapter
    whole = train(_with_dir(data, tmp_path / "whole"))
    with pytest.raises(Interrupted):
        train(_with_dir(data, tmp_path / "parts"), observers=[StopAt(step)])
    parts = resume(tmp_path / "parts")
    assert parts.report["artefact"]["sha256"] == whole.report["artefact"]["sha256"]
    assert _line(parts) == _line(whole)


@pytest.mark.parametrize("until", [5, 12])
def test_until_stops_there_and_before_the_export(make, tmp_path, until):
    data = make(evaluate__tasks=[]).model_dump(mode="json")
    with pytest.raises(Interrupted, match=f"a request to stop after step {until} of 12"):
        train(_with_dir(data, tmp_path / "run"), until=until)
    stopped = tunesmith.Run.open(tmp_path / "run")
    assert [step["step"] for step in Timeline.read(stopped.path).steps] == [*range(1, until + 1)]
    assert verify(stopped.folder.checkpoints / f"step-{until}").step == until
    assert not stopped.folder.adapter.exists()
    with pytest.raises(Interrupted, match=f"a request to stop after step {until} of 12"):
        resume(stopped.path, until=until)
    if until == 12:  # From any other step, resuming to the end is tried below.
        assert resume(stopped.path, until=13).status == "succeeded"


def test_until_before_the_first_step_is_refused(make):
    with pytest.raises(CommandError, match="--until: got 0; expected a step"):
        train(make(), until=0)
    with pytest.raises(CommandError, match="--until: got -1"):
        train(make(), until=-1)


def test_each_step_tells_what_it_was_trained_on(make, tmp_path, rows):
    data = make(evaluate__tasks=[], data__eval=None).model_dump(mode="json")

    def told(name):
        with pytest.raises(Interrupted):
            train(_with_dir(data, tmp_path / name), until=7)
        steps = Timeline.read(tmp_path / name / "events.jsonl").steps
        return [step["digest"] for step in steps], [step["seed"] for step in steps]

    digests, seeds = told("first")
    assert told("again") == (digests, seeds)
    assert len(set(digests)) == len(set(seeds)) == 7
    rows.write_text(rows.read_text().replace("say ", "SAY ", 1))
    changed = [new != old for new, old in zip(told("changed")[0], digests, strict=True)]
    # The first row comes in one step of the first epoch, and perhaps in the first of the second.
    assert sum(changed[:6]) == 1


def test_killed_at_any_moment_and_resumed_equals_uninterrupted(make, tmp_path):
    recipe = make()
    data = recipe.model_dump(mode="json")
    whole = train(_with_dir(data, tmp_path / "whole"))
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(_with_dir(data, tmp_path / "killed")))
    _kill_at_step(
        [sys.executable, "-m", "tunesmith.cli.main", "train", str(path)], tmp_path / "killed", 7
    )
    run = resume(tmp_path / "killed")
    assert run.report["artefact"]["sha256"] == whole.report["artefact"]["sha256"]
    assert Timeline.read(run.folder.events).started[1]["resumed_from"] >= 6


def test_a_changed_recipe_is_refused_with_the_difference(make):
    with pytest.raises(Interrupted) as caught:
        train(make(), observers=[StopAt(3)])
    path = make().output.dir
    assert f"hint: go on with: tunesmith resume {path}" in str(caught.value)
    assert tunesmith.Run.open(path).status == "interrupted"
    with pytest.raises(CommandError) as refused:
        resume(path, ["train.learning_rate=0.5"])
    assert "train.learning_rate: 0.01 -> 0.5" in str(refused.value)


def test_changed_rows_are_refused(make, rows):
    with pytest.raises(Interrupted):
        train(make(), observers=[StopAt(3)])
    rows.write_text(rows.read_text().replace("say ", "SAY "))
    with pytest.raises(CommandError, match="another data than the run began with"):
        resume(make().output.dir)


def test_a_finished_run_is_not_resumed(make):
    run = train(make())
    with pytest.raises(CommandError, match="got a run that has succeeded"):
        resume(run.path)


def test_a_second_process_on_the_folder_is_refused(make):
    recipe = make()

    class Intruder:
        def notice(self, event):
            if type(event).__name__ == "Step" and event.step == 1:
                with pytest.raises(CommandError) as caught:
                    resume(recipe.output.dir)
                self.message = str(caught.value)

    intruder = Intruder()
    train(recipe, observers=[intruder])
    assert str(os.getpid()) in intruder.message


def test_an_observer_that_breaks_is_dropped_and_named(make):
    class Broken:
        def notice(self, event):
            raise OSError("no tracker here")

    report = train(make(), observers=[Broken()]).report
    assert report["status"] == "succeeded"
    assert any("Broken" in warning for warning in report["warnings"])


def test_divergence_fails_the_run_and_names_the_rows(make):
    with pytest.raises(RunError) as caught:
        train(
            make(train__learning_rate=1e30, train__clip=None, train__warmup=0, adapter__dropout=0.0)
        )
    assert "rows.jsonl:" in str(caught.value)
    assert caught.value.exit_code == 3
    report = json.loads((Path(make().output.dir) / "report.json").read_text())
    assert report["status"] == "failed"
    assert "rows.jsonl:" in report["reason"]


def test_a_budget_that_nothing_meets_fails_the_run(make):
    with pytest.raises(RunError, match="no checkpoint within 1e-09"):
        train(make(evaluate__forgetting_budget=1e-9, evaluate__probes=["general"]))


@pytest.mark.parametrize("adapter", [{"name": "lora", "rank": 4}, {"name": "full"}])
def test_what_was_exported_loads_elsewhere_with_equal_logits(make, tmp_path, adapter):
    data = make().model_dump(mode="json")
    run = train(_with_dir({**data, "adapter": adapter}, tmp_path / "run"))
    merged = run.export("merged", tmp_path / "merged")
    assert json.loads((merged / "certificate.json").read_text())["ok"]
    for folder in (merged, run.path / ("model" if adapter["name"] == "full" else "adapter")):
        assert "rows.jsonl` | 24 |" in (folder / "README.md").read_text()
    ids = torch.arange(20)[None]
    if adapter["name"] == "lora":
        tuned = AutoPeftModelForCausalLM.from_pretrained(run.folder.adapter)
    else:
        tuned = AutoModelForCausalLM.from_pretrained(run.folder.model)
    plain = AutoModelForCausalLM.from_pretrained(merged)
    torch.testing.assert_close(
        plain(input_ids=ids).logits, tuned(input_ids=ids).logits, rtol=1e-4, atol=1e-4
    )


def test_python_interface_in_a_few_lines(make, tmp_path):
    run = tunesmith.train(make())
    assert isinstance(run.generate("say x", max_new_tokens=4), str)
    assert len(run.generate(["say x", "say"], max_new_tokens=4)) == 2
    assert run.export(to="adapter").name == "export-adapter"


def _with_dir(data, path):
    from tunesmith.recipe import from_dict

    return from_dict({**data, "output": {"dir": str(path)}})


def _line(run):
    """What training did, without times: order, loss bits, rate."""
    keys = ("step", "epoch", "loss", "learning_rate", "grad_norm", "tokens", "tokens_trained")
    return [[step[key] for key in keys] for step in Timeline.read(run.folder.events).steps]


def _kill_at_step(command, folder, step):
    """Start a run in a process of its own and SIGKILL it once it has told `step`."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        told = (folder / "events.jsonl").read_text() if (folder / "events.jsonl").exists() else ""
        if any(json.loads(line).get("step", 0) >= step for line in told.splitlines()[:-1]):
            break
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_a_type_that_the_processor_is_slow_in_is_told(make, monkeypatch):
    monkeypatch.setattr("tunesmith.api.session.lag", lambda precision, device: 23.4)
    with pytest.raises(Interrupted):
        train(recipe := make(), until=1)
    warned = Timeline.read(Path(recipe.output.dir) / "events.jsonl").warnings
    assert any("fp32 takes 23 times as long as fp32" in record["message"] for record in warned)
