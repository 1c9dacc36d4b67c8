"""Runs over a quantised base: what is measured, proven and exported is said to be over it."""

import json
import sys

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM

from tunesmith.api import combined
from tunesmith.api.answer import open_speaker
from tunesmith.api.learner import build_base
from tunesmith.api.plan import plan
from tunesmith.api.train import resume, train
from tunesmith.cli.plan import run as plan_verb
from tunesmith.errors import MachineError, RecipeError
from tunesmith.models import nf4
from tunesmith.models.quantize import KINDS, kind_of
from tunesmith.recipe import from_dict, to_yaml


@pytest.fixture(params=list(KINDS))
def kind(request):
    if request.param == "nf4":
        pytest.importorskip("bitsandbytes", reason="nf4 needs the extra `quant`")
    return request.param


def test_a_run_over_a_quantized_base_leaves_its_proofs(make, kind):
    run = train(make(model__quantize=kind))
    report = run.report
    assert report["status"] == "succeeded"
    assert report["base"]["quantize"] == kind
    assert report["eval_loss"]["after"] < report["eval_loss"]["before"]
    certificate = report["certificate"]
    assert certificate["ok"]
    assert certificate["max_logit_difference"] == 0.0
    beside = certificate["also"]["over the base as published"]
    assert 0 < beside["max_logit_difference"] < 5
    assert any("over the base as published" in warning for warning in report["warnings"])
    lock = json.loads((run.path / "lock.json").read_text())
    assert lock["base"]["quantize"] == kind
    assert ("bitsandbytes" in lock["versions"]) == (kind == "nf4")
    assert report["base"]["parameters"] == train(make()).report["base"]["parameters"]


def test_the_same_recipe_gives_the_same_bits_resumed_or_not(make, kind):
    whole = train(make(model__quantize=kind))
    again = train(make(model__quantize=kind))
    digest = whole.report["artefact"]["sha256"]
    assert again.report["artefact"]["sha256"] == digest
    (again.path / "report.json").unlink()
    for step in (8, 9, 10, 11, 12):
        for file in again.path.glob(f"checkpoints/step-{step}/*"):
            file.unlink()
    assert resume(again.path).report["artefact"]["sha256"] == digest


def test_a_plan_says_how_the_base_is_held(make, tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(make(model__quantize="int8")))
    assert plan(path).base_parameters == plan(make()).base_parameters
    plan_verb(str(path))
    assert "base in int8" in capsys.readouterr().out


def test_fast_and_reference_kernels_train_alike(make):
    losses = [
        train(make(model__quantize="int8", train__kernels=kernels)).report["eval_loss"]["after"]
        for kernels in ("fast", "reference")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_the_run_answers_over_the_base_it_was_trained_over(make, kind):
    run = train(make(model__quantize=kind))
    speaker = open_speaker(str(run.path))
    assert kind_of(speaker.model) == kind
    assert (
        run.generate("say xx", max_new_tokens=4)
        == speaker.answer([[{"role": "user", "content": "say xx"}]], 4)[0]
    )


def test_a_merged_export_is_the_model_that_was_trained(make, kind):
    run = train(make(model__quantize=kind))
    target = run.export()
    proof = json.loads((target / "certificate.json").read_text())
    assert proof["ok"]
    told = proof["also"]["with the base as it was quantised in training"]
    # Weights alone are NF4, so that all products are the same; int8 rounds activations besides.
    assert told["max_logit_difference"] < (1e-3 if kind == "nf4" else 0.2)
    ids = torch.arange(40)[None]
    merged = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)(ids).logits
    trained = open_speaker(str(run.path)).model(ids).logits
    wide = AutoPeftModelForCausalLM.from_pretrained(run.folder.adapter, dtype=torch.float32)
    assert (merged - trained).norm() < (wide(ids).logits - trained).norm()


def test_full_fine_tuning_over_a_quantized_base_is_refused(make):
    data = make(model__quantize="int8").model_dump(mode="json") | {"adapter": {"name": "full"}}
    with pytest.raises(RecipeError) as caught:
        plan(from_dict(data))
    assert str(caught.value) == (
        "model.quantize: got int8 with adapter.name: full, which trains the base's own weights; "
        "expected none\n"
        "hint: quantised weights stay as they are; train beside them with adapter.name: lora"
    )


def test_int8_on_a_gpu_is_refused(make, monkeypatch):
    monkeypatch.setattr(combined, "device", lambda: torch.device("cuda"))
    with pytest.raises(RecipeError, match=r"quantize: got int8 on cuda; expected none or nf4"):
        build_base(make(model__quantize="int8"))


def test_an_unknown_kind_is_refused_with_the_choices(make):
    with pytest.raises(RecipeError, match="'none', 'int8' or 'nf4'"):
        make(model__quantize="int4")


def test_nf4_without_bitsandbytes_says_how_to_get_it(make, monkeypatch):
    nf4.library.cache_clear()
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MachineError, match=r"hint: pip install 'tunesmith\[quant\]', or model"):
        plan(make(model__quantize="nf4"))
    nf4.library.cache_clear()
