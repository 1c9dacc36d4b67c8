"""GGUF: what is written is what was trained, and a fault in the mapping never passes."""

from copy import deepcopy
from dataclasses import replace

import gguf
import pytest
import torch
from tokenizers import normalizers
from transformers import BloomConfig, Gemma2Config, LlamaConfig, MistralConfig, Qwen2Config

from tunesmith.errors import ModelError, RunError
from tunesmith.export import forms, gguf_names, gguf_reader, gguf_writer
from tunesmith.export.asked import of_model
from tunesmith.export.differ import differ
from tunesmith.export.gguf_names import by_neighbours, family_of
from tunesmith.export.gguf_vocabulary import vocabulary
from tunesmith.export.ship import ship
from tunesmith.models.load import quiet
from tunesmith.testing.exported import CONFIGS, trained, whole_model
from tunesmith.testing.tiny import byte_tokenizer
from tunesmith.testing.tiny_bpe import bpe_tokenizer


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A trained Llama, loaded and asked once."""
    return trained(whole_model(tmp_path_factory.mktemp("kept") / "model", "llama"))


@pytest.fixture
def llama(kept):
    """A copy of it that a test may change."""
    asked, artefact = kept
    return replace(asked, model=deepcopy(asked.model)), artefact


def _export(asked, artefact, target, stored="f32", to="gguf"):
    form = forms.form(to, stored, artefact, None)
    return ship(asked, target, form, lambda folder, certificate: None)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_every_family_is_read_back_as_it_was(name, tmp_path):
    asked, artefact = trained(whole_model(tmp_path / "model", name))
    form = forms.form("gguf", "f32", artefact, None)
    form.write(asked, tmp_path)
    path = gguf_reader.file_in(tmp_path)
    with quiet():
        tokenizer = gguf_reader.load_tokenizer(path)
        got = of_model(
            gguf_reader.load_model(path),
            lambda text: tokenizer(text, add_special_tokens=False)["input_ids"],
            asked.asked,
        )
    found = differ(asked.reply, got)
    assert found.relative_difference < 1e-5
    assert found.equal_greedy_tokens == 1.0
    assert got.token_ids == asked.reply.token_ids
    torch.testing.assert_close(got.losses, asked.reply.losses, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("stored", "bits"), [("f32", 32), ("f16", 16), ("bf16", 16), ("q8_0", 8.5)]
)
def test_each_type_passes_in_a_fresh_process(stored, bits, llama, tmp_path):
    asked, artefact = llama
    certificate = _export(asked, artefact, tmp_path / "out", stored)
    assert certificate.ok
    assert certificate.texts == 2
    assert certificate.unequal_texts == 0
    assert certificate.heldout_loss.tokens == 2
    assert certificate.heldout_loss.exported == pytest.approx(
        certificate.heldout_loss.trained, rel=0.02
    )
    reader = gguf.GGUFReader(tmp_path / "out" / f"tiny-{stored}.gguf")
    matrices = [t for t in reader.tensors if len(t.shape) == 2]
    assert {t.n_bytes * 8 / t.n_elements for t in matrices} == {bits}
    vectors = [t for t in reader.tensors if len(t.shape) == 1]
    assert {t.tensor_type for t in vectors} == {gguf.GGMLQuantizationType.F32}


def test_the_file_says_what_it_is(tmp_path):
    asked, artefact = trained(whole_model(tmp_path / "model", "llama tied"))
    _export(asked, artefact, tmp_path / "out", "f16")
    reader = gguf.GGUFReader(tmp_path / "out" / "tiny-f16.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "llama"
    assert fields["general.name"] == "tiny"
    assert fields["general.license"] == "mit"
    assert fields["general.base_model.0.name"] == "tiny-base"
    assert fields["general.file_type"] == 1
    assert fields["llama.attention.head_count_kv"] == 2
    assert fields["llama.rope.dimension_count"] == 16
    assert fields["tokenizer.ggml.pre"] == "gpt-2"
    assert fields["tokenizer.ggml.eos_token_id"] == 291
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert fields["tokenizer.chat_template"] == bpe_tokenizer().chat_template
    assert len(fields["tokenizer.ggml.tokens"]) == 320
    assert fields["tokenizer.ggml.token_type"][289:294] == [1, 3, 3, 3, 5]
    assert "output.weight" not in {tensor.name for tensor in reader.tensors}


def _unpermuted(tensor, num_heads):
    return tensor


def _without_a_norm(model):
    return [(name, t) for name, t in TENSORS(model) if name != "blk.1.ffn_norm.weight"]


def _tied_anyway(model):
    return [(name, t) for name, t in TENSORS(model) if name != "output.weight"]


def _keys_and_values_swapped(model):
    swap = {"attn_k": "attn_v", "attn_v": "attn_k"}
    for name, tensor in TENSORS(model):
        part = name.split(".")[-2]
        yield name.replace(part, swap.get(part, part)), tensor


TENSORS = gguf_names.tensors
MUTATIONS = {
    "no permutation": (gguf_names, "by_neighbours", _unpermuted),
    "a tensor left out": (gguf_writer, "tensors", _without_a_norm),
    "the head taken for tied": (gguf_writer, "tensors", _tied_anyway),
    "keys for values": (gguf_writer, "tensors", _keys_and_values_swapped),
    "another rotation": (gguf_writer, "rope_base", lambda config: 500.0),
}


@pytest.mark.parametrize("stored", ["f32", "q8_0"])
@pytest.mark.parametrize("what", list(MUTATIONS))
def test_a_fault_in_the_mapping_fails_the_certificate(what, stored, llama, tmp_path, monkeypatch):
    asked, artefact = llama
    monkeypatch.setattr(*MUTATIONS[what])
    with pytest.raises(RunError):
        _export(asked, artefact, tmp_path / "out", stored)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.iterdir())


def test_another_tokenizer_fails_the_certificate(llama, tmp_path, monkeypatch):
    asked, artefact = llama
    monkeypatch.setattr(
        forms, "vocabulary", lambda *a: vocabulary(bpe_tokenizer("gpt-2"), frozenset({291}), 320)
    )
    with pytest.raises(RunError, match="of 2 texts with other token ids"):
        _export(asked, artefact, tmp_path / "out", "f16")


def test_a_weight_that_f16_cannot_hold_is_refused(llama, tmp_path):
    asked, artefact = llama
    with torch.no_grad():
        asked.model.model.layers[1].mlp.up_proj.weight[0, 0] = 1e6
    with pytest.raises(RunError, match=r"ffn_up.weight: got a weight of 1e\+06, which f16 cannot"):
        _export(asked, artefact, tmp_path / "out", "f16")
    assert not (tmp_path / "out").exists()


def test_rows_change_places_head_by_head():
    halves = torch.tensor([0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32])[:, None]
    assert by_neighbours(halves, 2)[:, 0].tolist() == [0, 10, 1, 11, 2, 12, 20, 30, 21, 31, 22, 32]


YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            Gemma2Config(),
            "got a base of type 'gemma2'; expected one of llama, mistral, qwen2, qwen3",
        ),
        (BloomConfig(), "got a base of type 'bloom'"),
        (MistralConfig(sliding_window=64), "got a sliding window of 64 tokens"),
        (LlamaConfig(attention_bias=True), "got biases in its linear layers"),
        (LlamaConfig(rope_parameters=YARN), "got rotary scaling of type 'yarn'"),
        (Qwen2Config(rope_parameters=YARN), "got rotary scaling of type 'yarn'"),
        (LlamaConfig(hidden_act="gelu"), "got hidden_act 'gelu'"),
    ],
)
def test_models_that_would_lose_something_are_refused(config, text):
    with pytest.raises(ModelError, match=f"export to GGUF: {text}"):
        family_of(config)


def _with(**changes):
    tokenizer = bpe_tokenizer()
    for name, value in changes.items():
        setattr(tokenizer.backend_tokenizer, name, value)
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "text"),
    [
        (byte_tokenizer(), "got a tokenizer of kind BPE; expected byte-level BPE with merges"),
        (_with(normalizer=normalizers.Lowercase()), "got a normalizer 'Lowercase'"),
        (
            _with(pre_tokenizer=byte_tokenizer().backend_tokenizer.pre_tokenizer),
            'got text cut by {"type": "ByteLevel"',
        ),
    ],
)
def test_tokenizers_that_gguf_cannot_hold_are_refused(tokenizer, text):
    with pytest.raises(ModelError, match=text):
        vocabulary(tokenizer, frozenset({291}), 320)


@pytest.mark.parametrize("cut", ["smollm", "gpt-2", "llama-bpe", "qwen2", "tekken", "gpt-4o"])
def test_ways_of_cutting_have_their_names(cut):
    assert vocabulary(bpe_tokenizer(cut), frozenset({291}), 320).pre == cut


def test_bos_is_added_where_training_had_it():
    assert vocabulary(bpe_tokenizer(bos=True), frozenset({292}), 320).adds_bos
    without = bpe_tokenizer(bos=True)
    without.chat_template = bpe_tokenizer().chat_template
    assert not vocabulary(without, frozenset({292}), 320).adds_bos
    without.chat_template = None
    assert vocabulary(without, frozenset({292}), 320).adds_bos


def test_a_second_stop_token_ends_turns():
    special = vocabulary(bpe_tokenizer(), frozenset({291, 292}), 320).special
    assert special == {"eos": 291, "padding": 292, "eot": 292}
