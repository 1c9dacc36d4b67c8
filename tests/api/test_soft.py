"""Whole runs with virtual tokens: certified, resumed to the same bits, answered and exported."""

import json

import pytest
import torch
from peft import AutoPeftModelForCausalLM

from tunesmith.api.answer import open_speaker
from tunesmith.api.export import Wish, export_run
from tunesmith.api.plan import plan
from tunesmith.api.train import resume, train
from tunesmith.errors import CommandError, Interrupted, RecipeError
from tunesmith.recipe import from_dict
from tunesmith.runs.folder import RunFolder

KINDS = {
    "prompt": {"name": "prompt", "virtual_tokens": 6, "init_text": "write the digit"},
    "prefix": {"name": "prefix", "virtual_tokens": 6},
    "ptuning": {"name": "ptuning", "virtual_tokens": 6, "encoder": "lstm", "dropout": 0.1},
}


@pytest.fixture
def with_kind(make):
    """Builds the tiny recipe over a kind, or other keys, with changes, into a folder of its own."""

    def build(kind, folder=None, **changes):
        data = make(**changes).model_dump(mode="json")
        data["adapter"] = KINDS[kind] if isinstance(kind, str) else kind
        if folder is not None:
            data["output"]["dir"] = str(folder)
        return from_dict(data)

    return build


def _losses(run):
    lines = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["event"] == "step"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_an_adapter_that_answers_as_trained(with_kind, kind, tmp_path):
    run = train(with_kind(kind))
    report = run.report
    assert report["status"] == "succeeded"
    assert report["certificate"]["ok"]
    assert report["adapter"]["targeted"] == ["virtual tokens x6"]
    assert report["eval_loss"]["after"] < report["eval_loss"]["before"]
    ids = list(b"say xx")
    with_peft = AutoPeftModelForCausalLM.from_pretrained(run.path / "adapter")
    base = with_peft.get_base_model()
    # Before training is the base as it was published, without what was put before it.
    assert report["base"]["parameters"] == sum(p.numel() for p in base.parameters())
    speaker = open_speaker(str(run.path))
    expected = []
    with torch.no_grad():
        for _ in range(8):
            logits = with_peft(input_ids=torch.tensor([ids + expected])).logits[0, -1]
            expected.append(int(logits.argmax()))
        alone = base(input_ids=torch.tensor([ids])).logits[0, -1]
    assert speaker.texts([ids], 8) == [speaker.text(expected)]
    with speaker.as_base():
        assert speaker.texts([ids], 1) == [speaker.text([int(alone.argmax())])]
    target = export_run(RunFolder.open(run.path), Wish("adapter", tmp_path / "out"))
    assert json.loads((target / "certificate.json").read_text())["ok"]
    for to in ("merged", "gguf"):
        with pytest.raises(CommandError, match=f"got {to}, of an adapter that is no change"):
            export_run(RunFolder.open(run.path), Wish(to, tmp_path / "other"))


def test_stopped_and_resumed_equals_uninterrupted(with_kind, tmp_path):
    """Units of the LSTM are dropped anew in each step."""
    small = {"train__epochs": 1, "evaluate__tasks": []}
    whole = train(with_kind("ptuning", tmp_path / "whole", **small))
    with pytest.raises(Interrupted):
        train(with_kind("ptuning", tmp_path / "parts", **small), until=3)
    parts = resume(tmp_path / "parts")
    assert parts.report["artefact"]["sha256"] == whole.report["artefact"]["sha256"]
    assert _losses(parts) == _losses(whole)


@pytest.mark.parametrize(("kind", "goes_on"), [("ptuning", "prompt"), ("prefix", "prefix")])
def test_a_run_goes_on_from_what_an_earlier_one_left(with_kind, kind, goes_on, tmp_path):
    """Before training is then that, and no longer the base; resumed it ends in the same bits."""
    small = {"train__epochs": 1, "evaluate__tasks": []}
    first = train(with_kind(kind, tmp_path / "first", **small)).report

    def again(folder):
        keys = {"name": goes_on, "virtual_tokens": 6, "from": str(tmp_path / "first")}
        return with_kind(keys, tmp_path / folder, **small)

    whole = train(again("whole"))
    losses = whole.report["eval_loss"]
    assert losses["before"] == pytest.approx(first["eval_loss"]["after"], rel=1e-5)
    assert losses["after"] < losses["before"]
    assert whole.report["certificate"]["ok"]
    with pytest.raises(Interrupted):
        train(again("parts"), until=3)
    parts = resume(tmp_path / "parts")
    assert parts.report["artefact"]["sha256"] == whole.report["artefact"]["sha256"]
    assert parts.report["eval_loss"] == losses
    assert _losses(parts) == _losses(whole)


def test_packing_and_kernels_do_not_matter(with_kind, tmp_path):
    small = {"train__epochs": 0.5, "evaluate__tasks": [], "data__eval": None}
    slow = {"train__kernels": "reference", "data__packing": False}
    fast = train(with_kind("prefix", tmp_path / "fast", **small))
    other = train(with_kind("prefix", tmp_path / "slow", **small, **slow))
    assert _losses(other) == pytest.approx(_losses(fast), rel=1e-4)


def test_over_a_quantized_base(with_kind):
    changes = {"train__epochs": 1, "evaluate__tasks": [], "train__precision": "bf16"}
    report = train(with_kind("prefix", model__quantize="int8", **changes)).report
    assert report["certificate"]["ok"]
    assert report["eval_loss"]["after"] < report["eval_loss"]["before"]


def test_a_probe_asks_the_base_and_not_what_was_put_before_it(with_kind):
    """One step at a rate of nothing: what is forgotten then is what the virtual tokens cause."""
    changes = {"train__learning_rate": 1e-9, "train__epochs": 0.1, "evaluate__tasks": []}
    report = train(with_kind("prompt", evaluate__probes=["general"], **changes)).report
    assert report["forgetting"]["kl"] > 1e-6
    assert report["eval_loss"]["before"] != report["eval_loss"]["after"]


def test_a_plan_counts_them(with_kind):
    found = plan(with_kind("prompt", evaluate__tasks=[]))
    assert found.trainable_parameters == 6 * 64
    assert found.fit.fits


def test_positions_must_do_for_both(with_kind):
    with pytest.raises(RecipeError, match=r"at most 506.*6 of its 512 positions are for virtual"):
        plan(with_kind("prompt", data__max_tokens=507))
