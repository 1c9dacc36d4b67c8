"""A run whose disk fills up or whose checkpoints are damaged: it says so and ends in equal bits."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from tests.tmpfs import tmpfs
from tunesmith.api.train import resume, train
from tunesmith.api.verify import verify
from tunesmith.cli import verify as verb
from tunesmith.errors import CheckpointError, Interrupted, MachineError
from tunesmith.recipe import from_dict
from tunesmith.runs.events import Saved, Step, Warned
from tunesmith.runs.timeline import Timeline


@pytest.fixture(scope="module")
def recipe_for(tiny_folder, tmp_path_factory):
    """Recipes of 6 steps that differ in their folder alone."""
    # As in every test; fixtures of a module come before that of the environment.
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("damage")
    rows = place / "rows.jsonl"
    lines = [{"prompt": f"say {i % 5}", "completion": f"{i % 7}"} for i in range(24)]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def build(folder: Path, **checkpoint):
        return from_dict(
            {
                "model": {"base": str(tiny_folder)},
                "data": {"train": str(rows), "eval": str(rows), "max_tokens": 64},
                "adapter": {"name": "lora", "rank": 2},
                "train": {"epochs": 1, "batch_rows": 4, "learning_rate": 1e-2, "precision": "fp32"},
                "evaluate": {"every": 2, "probes": []},
                "checkpoint": {"every": 1, "keep": 3, **checkpoint},
                "output": {"dir": str(folder)},
            }
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_HOME", str(place / "home"))
        yield build


@pytest.fixture(scope="module")
def whole(recipe_for, tmp_path_factory):
    """A run that nothing happened to."""
    return train(recipe_for(tmp_path_factory.mktemp("whole") / "run"))


@pytest.fixture(scope="module")
def stopped(recipe_for, tmp_path_factory) -> Path:
    """A run that was stopped after step 3; tests work on copies at the same place."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Interrupted):
        train(recipe_for(folder), observers=[StopAt(3)])
    shutil.copytree(folder, folder.with_name("kept"))
    return folder


@pytest.fixture
def copy(stopped) -> Path:
    shutil.rmtree(stopped)
    shutil.copytree(stopped.with_name("kept"), stopped)
    return stopped


@pytest.fixture
def disk(tmp_path) -> Path:
    """A file system of 16 MiB."""
    with tmpfs(tmp_path / "disk", "size=16m") as place:
        yield place


class StopAt:
    """Asks for an end at a step, as Ctrl-C does."""

    def __init__(self, step):
        self.step = step

    def notice(self, event):
        if isinstance(event, Step) and event.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


class Filler:
    """Fills the disk to the last byte at a step; what it does once the run says it waits is set."""

    def __init__(self, disk: Path, step: int, then=lambda: None):
        self.ballast, self.step, self.then, self.told = disk / "ballast", step, then, []

    def notice(self, event):
        if isinstance(event, Step) and event.step == self.step:
            self.fill()
        if isinstance(event, Warned) and event.message.startswith("paused: "):
            self.told.append(event.message)
            self.then()

    def fill(self):
        with self.ballast.open("ab", buffering=0) as file:
            for size in (2**20, 2**12, 1):
                try:
                    while file.write(b"x" * size):
                        pass
                except OSError:
                    continue

    def empty(self):
        self.ballast.unlink(missing_ok=True)


def events_are_whole(folder: Path) -> bool:
    text = (folder / "events.jsonl").read_bytes()
    return text.endswith(b"\n") and all(json.loads(line) for line in text.splitlines())


def artefact(run) -> str:
    return run.report["artefact"]["sha256"]


def test_a_full_disk_pauses_the_run_which_goes_on_to_the_same_bits(recipe_for, whole, disk):
    filler = Filler(disk, 3)
    filler.then = filler.empty
    run = train(recipe_for(disk / "run"), observers=[filler])
    assert artefact(run) == artefact(whole)
    assert len(filler.told) == 1
    assert "No space left on device" in filler.told[0]
    assert str(disk / "run") in filler.told[0]
    assert "bytes needed" in filler.told[0]
    assert events_are_whole(run.path)
    warnings = " ".join(run.report["warnings"])
    assert "there is room again, nothing was lost" in warnings
    # It had said so before step 1.
    assert "bytes free on its disk; expected " in warnings


def test_a_wish_to_stop_ends_the_pause_and_the_run_resumes(recipe_for, whole, disk):
    filler = Filler(disk, 4, then=lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match="while waiting for room on its disk") as caught:
        train(recipe_for(disk / "run"), observers=[filler])
    assert caught.value.exit_code == 130
    filler.empty()
    assert all(finding.ok for finding in verify(disk / "run"))
    assert artefact(resume(disk / "run")) == artefact(whole)


def test_a_run_that_does_not_wait_fails_before_its_first_step_or_at_the_save(recipe_for, disk):
    with pytest.raises(MachineError, match="bytes free on its disk") as caught:
        train(recipe_for(disk / "run", on_full_disk="fail"))
    assert caught.value.exit_code == 4
    assert not Timeline.read(disk / "run" / "events.jsonl").steps


def test_a_disk_that_fills_at_the_end_does_not_spoil_export_and_report(recipe_for, whole, disk):
    class AtTheEnd(Filler):
        def notice(self, event):
            super().notice(event)
            if isinstance(event, Saved) and event.step == 6:
                self.fill()

    filler = AtTheEnd(disk, 0)
    filler.then = filler.empty
    run = train(recipe_for(disk / "run"), observers=[filler])
    assert filler.told
    assert artefact(run) == artefact(whole)
    assert all(finding.ok for finding in verify(run.path))


def flip(path: Path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_a_damaged_newest_checkpoint_is_set_aside_told_and_made_up_for(copy, whole):
    flip(copy / "checkpoints" / "step-3" / "state.safetensors")
    run = resume(copy)
    assert artefact(run) == artefact(whole)
    assert Timeline.read(run.folder.events).started[-1]["resumed_from"] == 2
    told = [text for text in run.report["warnings"] if "was set aside" in text]
    assert len(told) == 1
    assert "quarantine/step-3" in told[0]
    assert "state.safetensors: its bytes are not those that were saved" in told[0]
    assert (copy / "checkpoints" / "quarantine" / "step-3").is_dir()


def test_a_run_whose_every_checkpoint_is_damaged_is_not_begun_anew_unasked(copy):
    for folder in (copy / "checkpoints").iterdir():
        flip(folder / "state.json")
    for _ in range(2):  # The second time they lie in quarantine already.
        with pytest.raises(CheckpointError, match="no whole checkpoint") as caught:
            resume(copy)
        assert "checkpoints/quarantine" in str(caught.value) or "quarantine" in caught.value.got
        assert caught.value.hint.endswith(f"tunesmith train {copy}/recipe.yaml")
        assert caught.value.exit_code == 3
    assert artefact(train(f"{copy}/recipe.yaml"))


def test_a_damaged_best_checkpoint_gives_way_to_the_next_best(recipe_for, tmp_path, monkeypatch):
    from tunesmith.engine import best

    # The earlier the better, so that the best one is not the last.
    monkeypatch.setattr(best, "_merit", lambda evaluated: -evaluated.step)
    folder = tmp_path / "run"

    class Vandal:
        def notice(self, event):
            if isinstance(event, Saved) and event.step == 6:
                flip(folder / "checkpoints" / "step-2" / "state.safetensors")

    run = train(recipe_for(folder, keep=5), observers=[Vandal()])
    assert run.report["checkpoint"]["best_step"] == 4
    assert any("the best of those left is exported" in text for text in run.report["warnings"])


def test_verify_names_what_is_damaged(whole, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(whole.path, folder)
    assert verb.run(str(folder)) == 0
    findings = verify(folder)
    assert [finding.what for finding in findings][-1] == "adapter"
    assert len(findings) >= 4
    for path, what, says in [
        ("checkpoints/step-6/state.json", "checkpoints/step-6", "state.json: its bytes"),
        ("adapter/adapter_model.safetensors", "adapter", "weights are not those of the report"),
        ("adapter/tokenizer.json", "adapter", "tokenizer.json: its bytes are not those"),
        ("adapter/adapter_config.json", "adapter", "adapter_config.json: its bytes"),
    ]:
        flip(folder / path)
        bad = [finding for finding in verify(folder) if not finding.ok]
        assert [finding.what for finding in bad] == [what]
        assert says in bad[0].says
        flip(folder / path)
    (folder / "adapter" / "chat_template.jinja").unlink()
    capsys.readouterr()
    assert verb.run(str(folder), json=True) == 3
    told = json.loads(capsys.readouterr().out)
    assert not told["ok"]
    assert "chat_template.jinja: missing" in told["findings"][-1]["says"]
