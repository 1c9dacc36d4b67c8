"""Merged models and adapters: put in place when they answer as trained, else not at all."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tunesmith.errors import CommandError, RunError
from tunesmith.export import forms
from tunesmith.export.forms import check
from tunesmith.export.reload import Holding
from tunesmith.export.ship import WITH_QUANTIZED, Form, ship
from tunesmith.models.load import load, quiet
from tunesmith.models.resolve import resolve
from tunesmith.testing.exported import adapter, random_model, trained, whole_model
from tunesmith.testing.tiny_bpe import bpe_tokenizer


def _described(folder, certificate):
    (folder / "README.md").write_text("card")


def _ship(folder, target, to="merged", stored="f32", quantized=None):
    asked, artefact = trained(folder, quantized)
    form = forms.form(to, stored, artefact, quantized)
    return ship(asked, target, form, _described)


@pytest.mark.parametrize("name", ["llama", "llama tied"])
@pytest.mark.parametrize("make", [adapter, whole_model])
def test_merged_weights_keep_their_ties(name, make, tmp_path):
    certificate = _ship(make(tmp_path / "artefact", name), tmp_path / "out")
    assert certificate.ok
    assert certificate.max_logit_difference < 1e-4
    assert json.loads((tmp_path / "out" / "certificate.json").read_text())["mean_kl"] < 1e-9
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert ("lm_head.weight" in tensors) == (name == "llama")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    shared = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert shared == (name == "llama tied")
    assert load(resolve(str(tmp_path / "out"), None), torch.float32).stop_ids == {291}


@pytest.mark.parametrize("name", ["llama", "llama tied"])
@pytest.mark.parametrize("to", ["merged", "gguf"])
def test_added_tokens_and_a_larger_vocabulary_are_kept(name, to, tmp_path):
    folder = tmp_path / "model"
    model, tokenizer = random_model(name), bpe_tokenizer()
    tokenizer.add_tokens(["<|new|>", "newword"])
    with quiet():
        model.resize_token_embeddings(352)
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    certificate = _ship(folder, tmp_path / "out", to)
    assert certificate.ok
    if to == "merged":
        again = PreTrainedTokenizerFast.from_pretrained(tmp_path / "out")
        assert again("a<|new|>newword")["input_ids"] == tokenizer("a<|new|>newword")["input_ids"]


@pytest.mark.parametrize(("stored", "ratio"), [("f32", 4), ("bf16", 2), ("f16", 2)])
def test_a_merged_model_is_stored_as_asked(stored, ratio, tmp_path):
    certificate = _ship(
        adapter(tmp_path / "adapter", "llama tied"), tmp_path / "out", "merged", stored
    )
    assert certificate.ok
    assert (certificate.max_logit_difference > 1e-5) == (stored != "f32")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.element_size() for tensor in weights.values()} == {ratio}


def test_the_tokenizer_is_copied_byte_for_byte(tmp_path):
    folder = adapter(tmp_path / "adapter", "llama")
    _ship(folder, tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


def test_an_adapter_is_copied_and_compared(tmp_path):
    folder = adapter(tmp_path / "adapter", "llama")
    certificate = _ship(folder, tmp_path / "out", "adapter", "")
    assert certificate.ok
    assert certificate.max_logit_difference == 0.0
    weights = "adapter_model.safetensors"
    assert (tmp_path / "out" / weights).read_bytes() == (folder / weights).read_bytes()


@pytest.mark.parametrize(("to", "stored"), [("gguf", "q8_0"), ("merged", "f32"), ("adapter", "")])
def test_over_a_quantized_base_the_loss_is_told(to, stored, tmp_path):
    held = Holding(torch.float32, "int8")
    folder = adapter(tmp_path / "adapter", "llama")
    certificate = _ship(folder, tmp_path / "out", to, stored, held)
    assert certificate.ok
    assert certificate.heldout_loss.rows == 1
    assert certificate.heldout_loss.exported > 0
    assert (WITH_QUANTIZED in certificate.also) == (to != "adapter")


def test_a_merge_that_went_wrong_leaves_nothing(tmp_path):
    folder = adapter(tmp_path / "adapter", "llama")
    asked, artefact = trained(folder)
    form = forms.form("merged", "f32", artefact, None)

    def spoilt(trained, target):
        form.write(trained, target)
        tensors = load_file(target / "model.safetensors")
        tensors["model.norm.weight"] *= 1.01
        save_file(tensors, target / "model.safetensors", {"format": "pt"})

    wrong = Form(spoilt, form.tolerance)
    with pytest.raises(RunError, match=r"an export that differs .*: max_logit_difference [\d.e-]+"):
        ship(asked, tmp_path / "out", wrong, _described)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_folder_in_use_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    folder = adapter(tmp_path / "adapter", "llama")
    with pytest.raises(CommandError, match="something that is there already"):
        _ship(folder, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("to", "stored", "is_adapter", "text"),
    [
        ("onnx", None, True, "--to: got 'onnx'; expected adapter, merged, gguf, ollama"),
        ("adapter", None, False, "--to: got adapter; expected merged, gguf or ollama"),
        ("merged", "q8_0", True, "--type: got 'q8_0' with --to merged; expected f32, f16, bf16"),
        ("gguf", "q4_0", True, "--type: got 'q4_0' with --to gguf; expected f32, f16, bf16, q8_0"),
        ("adapter", "f16", True, "--type: got 'f16' with --to adapter; expected none"),
    ],
)
def test_forms_that_there_are_not_are_refused(to, stored, is_adapter, text):
    with pytest.raises(CommandError, match=text):
        check(to, stored, is_adapter)


def test_every_form_has_its_usual_type():
    assert [check(to, None, True) for to in ("adapter", "merged", "gguf", "ollama")] == [
        "",
        "f32",
        "f16",
        "q8_0",
    ]
