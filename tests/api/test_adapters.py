"""Whole runs with adapters whose path through the house is their own."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.adapters import base
from tunesmith.api.answer import open_speaker
from tunesmith.api.merge import Manner, merge
from tunesmith.api.train import resume, train
from tunesmith.errors import CommandError, Interrupted, RecipeError

CASES = [
    {"name": "bottleneck", "placement": "houlsby", "width": 8},
    {"name": "freeze", "last_blocks": 1},
    {"name": "lora", "rank": 4, "init": "pissa", "dora": True, "added_tokens": ["say"]},
]
if "TUNESMITH_ADAPTERS" in os.environ:
    CASES += [{"name": name} for name in base.names() if name != "full"]


def _quick(make, adapter, precision="bf16", **changes):
    recipe = {"train__epochs": None, "train__steps": 3, "train__precision": precision}
    return make(**recipe | {"adapter__" + k: v for k, v in adapter.items()} | changes)


@pytest.fixture
def recipe_data(recipe_data):
    recipe_data["adapter"] = {}
    return recipe_data


@pytest.mark.parametrize("adapter", CASES, ids=str)
def test_a_run_is_proven_and_resumes_to_the_same_bits(make, adapter):
    whole = train(_quick(make, adapter))
    report = whole.report
    assert report["status"] == "succeeded"
    assert report["certificate"]["ok"]
    assert report["certificate"]["max_logit_difference"] < 1e-5
    assert report["eval_loss"]["after"] < report["eval_loss"]["before"]
    assert (
        whole.generate("say x", max_new_tokens=2)
        == whole.speaker.answer([[{"role": "user", "content": "say x"}]], 2)[0]
    )
    with pytest.raises(Interrupted):
        train(_quick(make, adapter), until=2)
    again = resume(whole.path)
    assert again.report["artefact"]["sha256"] == report["artefact"]["sha256"]


def test_frozen_weights_of_the_artefact_are_those_of_the_base(make, tiny_folder):
    run = train(_quick(make, {"name": "freeze", "last_blocks": 1}))
    ours, theirs = (load_file(f / "model.safetensors") for f in (run.folder.model, tiny_folder))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        if ".layers.1." in name:
            assert tensor.dtype is torch.float32
            assert not torch.equal(tensor, theirs[name])
        else:
            assert torch.equal(tensor, theirs[name].to(torch.bfloat16))


def test_added_tokens_reach_the_export_and_the_speaker(make, tmp_path):
    run = train(_quick(make, {"name": "lora", "rank": 2, "added_tokens": ["say"]}, "fp32"))
    assert len(open_speaker(str(run.path)).tokenizer("say")["input_ids"]) == 1
    folder = run.export("merged", tmp_path / "merged")
    assert json.loads((folder / "certificate.json").read_text())["ok"]
    assert len(open_speaker(str(folder)).tokenizer("say")["input_ids"]) == 1


def test_adapters_are_scaled_gone_on_with_and_mixed(make, tmp_path):
    keys = {"name": "lora", "rank": 2, "targets": ["q_proj", "down_proj"]}
    one = train(_quick(make, keys, "fp32", output__dir=str(tmp_path / "one")))
    more = keys | {"from": str(one.path)}
    two = train(_quick(make, more, "fp32", output__dir=str(tmp_path / "two")))
    assert two.report["eval_loss"]["before"] == pytest.approx(one.report["eval_loss"]["after"])
    mixed = merge([str(one.path), str(two.path)], [0.5, 0.5], tmp_path / "mixed", Manner("slerp"))
    assert json.loads((mixed / "certificate.json").read_text())["ok"]
    assert (mixed / "tokenizer.json").is_file()
    less = one.export("merged", tmp_path / "less", scale=0.7)
    name = "model.layers.0.self_attn.q_proj.weight"
    update = load_file(one.folder.adapter / "adapter_model.safetensors")
    stem = "base_model.model." + name.removesuffix(".weight")
    a, b = (update[f"{stem}.lora_{x}.weight"] for x in "AB")
    merged = load_file(less / "model.safetensors")[name]
    full = load_file(one.export("merged", tmp_path / "full") / "model.safetensors")[name]
    # s is 2: W + 0.7 s B A is W + s B A, less 0.3 s B A.
    torch.testing.assert_close(merged, full - 0.3 * 2 * b @ a, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("adapter", "kind", "text"),
    [
        ({"name": "lora", "dora": True}, "int8", "computes with the base's own weights"),
        ({"name": "lora", "init": "pissa"}, "int8", "changes the base's own weights"),
        ({"name": "freeze"}, "int8", "trains the base's own weights"),
        ({"name": "lora", "init": "loftq"}, "none", "loftq over a base that is not quantised"),
    ],
    ids=str,
)
def test_what_cannot_be_over_such_a_base_is_refused(make, adapter, kind, text):
    with pytest.raises(RecipeError, match=text):
        train(_quick(make, adapter, model__quantize=kind))


def test_loftq_runs_over_a_quantized_base(make):
    adapter = {"name": "lora", "rank": 4, "init": "loftq"}
    report = train(_quick(make, adapter, model__quantize="int8")).report
    assert report["certificate"]["ok"]
    plain = train(_quick(make, {"name": "lora", "rank": 4}, model__quantize="int8")).report
    assert report["eval_loss"]["after"] != plain["eval_loss"]["after"]


def test_a_bottleneck_is_not_merged(make, tmp_path):
    run = train(_quick(make, {"name": "bottleneck"}))
    with pytest.raises(CommandError, match="expected adapter: it cannot be merged"):
        run.export("merged", tmp_path / "merged")
    assert (run.export("adapter", tmp_path / "adapter") / "adapter_model.safetensors").is_file()
    assert "tunesmith chat" in (run.folder.adapter / "README.md").read_text()
