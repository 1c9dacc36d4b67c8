"""What is loaded is what was published, or nothing is."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import AutoModelForCausalLM

from tunesmith.errors import ModelError
from tunesmith.models.base import Base
from tunesmith.models.load import load
from tunesmith.models.resolve import resolve
from tunesmith.testing.tiny import IM_END, byte_tokenizer, tiny_base, tiny_model
from tunesmith.testing.tiny_gguf import tiny_gguf

EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_base(tmp_path / "base")


def loaded(path: Path, dtype: torch.dtype = torch.float32) -> Base:
    return load(resolve(str(path), None), dtype)


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        loaded(path)
    return str(caught.value)


def test_base_has_the_saved_bits_and_nothing_to_train(folder: Path) -> None:
    base = loaded(folder)
    for name, tensor in tiny_model().state_dict().items():
        assert torch.equal(tensor, base.model.state_dict()[name]), name
    assert not base.model.training
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert base.model.config._attn_implementation == "sdpa"
    assert base.tokenizer.encode("é<|im_end|>") == byte_tokenizer().encode("é<|im_end|>")
    assert base.stop_ids == {IM_END}


def test_bf16_differs_from_fp32_by_rounding_alone(folder: Path) -> None:
    exact, rounded = loaded(folder).model, loaded(folder, torch.bfloat16).model
    for (name, one), other in zip(exact.named_parameters(), rounded.parameters(), strict=True):
        assert torch.equal(one.to(torch.bfloat16), other), name
    for (name, one), (_, other) in zip(exact.named_buffers(), rounded.named_buffers(), strict=True):
        assert other.dtype == torch.float32, name
        assert torch.equal(one, other), name
    assert any("inv_freq" in name for name, _ in rounded.named_buffers())
    assert {p.dtype for p in rounded.parameters()} == {torch.bfloat16}


def test_nothing_is_asked_of_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    assert loaded(folder).model.num_parameters() > 0


@pytest.mark.parametrize(
    ("named", "expected"), [(None, {257}), (300, {257, 300}), ([10, 300], {10, 257, 300})]
)
def test_stop_ids_join_tokenizer_and_generation_config(
    folder: Path, named: int | list[int] | None, expected: set[int]
) -> None:
    edit_json(folder / "generation_config.json", eos_token_id=named)
    assert loaded(folder).stop_ids == expected


def test_stop_token_that_also_pads_still_learns_as_an_input(folder: Path) -> None:
    edit_json(folder / "config.json", pad_token_id=IM_END)
    model = loaded(folder).model
    assert model.get_input_embeddings().padding_idx is None
    plain = AutoModelForCausalLM.from_pretrained(folder)
    assert plain.get_input_embeddings().padding_idx == IM_END, "nothing left to guard against"
    weight = model.get_input_embeddings().weight.requires_grad_(True)
    model.get_input_embeddings()(torch.tensor([IM_END])).sum().backward()
    assert torch.equal(weight.grad[IM_END], torch.ones(weight.shape[1]))


def test_missing_tensor_is_named(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.pop("model.norm.weight"))
    assert "got missing tensors: model.norm.weight" in refusal(folder)


def test_missing_head_is_named_unless_it_is_tied(tmp_path: Path) -> None:
    byte_tokenizer().save_pretrained(tmp_path)
    tiny_model(tied=False).save_pretrained(tmp_path)
    assert loaded(tmp_path).model.lm_head.weight.shape == (320, 64)
    edit_weights(tmp_path, lambda tensors: tensors.pop("lm_head.weight"))
    assert "missing tensors: lm_head.weight" in refusal(tmp_path)


def test_unexpected_tensor_is_named(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update(extra=torch.ones(2)))
    assert "got unexpected tensors: extra" in refusal(folder)


def test_tensor_of_another_shape_is_named(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(3)}))
    assert "tensors of another shape: model.norm.weight [3] instead of [64]" in refusal(folder)


def test_many_faults_are_counted(folder: Path) -> None:
    edit_weights(folder, lambda tensors: [tensors.pop(n) for n in list(tensors) if "_proj" in n])
    assert "missing tensors: model.layers.0.mlp.down_proj.weight, " in refusal(folder)
    assert "and 9 more" in refusal(folder)


def test_head_that_is_not_what_it_is_tied_to_is_refused(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update({"lm_head.weight": torch.ones(320, 64)}))
    assert "the head in the weights differs from the embedding" in refusal(folder)


def test_head_that_is_a_copy_of_what_it_is_tied_to_passes(folder: Path) -> None:
    edit_weights(
        folder, lambda tensors: tensors.update({"lm_head.weight": tensors[EMBEDDING].clone()})
    )
    model = loaded(folder).model
    assert model.lm_head.weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weight_that_is_not_finite_is_named(folder: Path, value: float) -> None:
    edit_weights(folder, lambda tensors: tensors["model.norm.weight"].fill_(1)[3:4].fill_(value))
    assert "NaN or infinity in model.norm.weight" in refusal(folder)


def test_tokenizer_with_more_ids_than_the_embedding_has_rows_is_refused(tmp_path: Path) -> None:
    byte_tokenizer().save_pretrained(tmp_path)
    tiny_model(vocab_size=258, pad_token_id=None).save_pretrained(tmp_path)
    assert "ids up to 258 for an embedding of 258 rows" in refusal(tmp_path)


def test_truncated_weights_are_refused(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1000])
    text = refusal(folder)
    assert "model.safetensors: got 377,112 bytes of data for tensors of 378,112" in text


def test_unknown_architecture_is_refused(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="nonesuch")
    assert "files that transformers cannot load (ValueError" in refusal(folder)


def test_missing_tokenizer_is_refused(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    assert f"{folder}: got files that transformers cannot load" in refusal(folder)


def test_tokenizer_json_counts_whatever_class_is_named(folder: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.save_pretrained(folder)
    edit_json(folder / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    pieces = loaded(folder).tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a 12")
    assert [piece for piece, _ in pieces] == ["a", "Ġ", "1", "2"]


def test_gguf_is_the_model_it_was_made_from(tmp_path: Path) -> None:
    base = loaded(tiny_gguf(tmp_path / "m.gguf", seed=4))
    for name, tensor in tiny_model(4).state_dict().items():
        assert torch.equal(tensor, base.model.state_dict()[name]), name
    assert base.model.config.rms_norm_eps == tiny_model().config.rms_norm_eps
    assert base.stop_ids == {IM_END}
    assert base.tokenizer.chat_template == byte_tokenizer().chat_template
    tokens = torch.arange(12)[None]
    expected = tiny_model(4)(tokens).logits
    torch.testing.assert_close(base.model(tokens).logits, expected, rtol=0, atol=1e-6)


def test_gguf_base_can_be_saved_and_loaded_as_a_folder(tmp_path: Path) -> None:
    base = loaded(tiny_gguf(tmp_path / "m.gguf"))
    base.model.save_pretrained(tmp_path / "saved")
    base.tokenizer.save_pretrained(tmp_path / "saved")
    again = loaded(tmp_path / "saved")
    assert torch.equal(again.model.lm_head.weight, base.model.lm_head.weight)
    assert again.tokenizer.encode("  12 t") == base.tokenizer.encode("  12 t")


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("smollm", ["ĠĠ", "1", "2"]),
        ("gpt-2", ["Ġ", "Ġ12"]),
        ("qwen2", ["Ġ", "Ġ", "1", "2"]),
    ],
)
def test_gguf_text_is_cut_as_its_metadata_says(tmp_path: Path, pre: str, pieces: list[str]) -> None:
    tokenizer = loaded(tiny_gguf(tmp_path / "m.gguf", pre=pre)).tokenizer
    found = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("  12")
    assert [piece for piece, _ in found] == pieces


def test_gguf_with_an_unknown_way_of_cutting_is_refused(tmp_path: Path) -> None:
    text = refusal(tiny_gguf(tmp_path / "m.gguf", pre="nonesuch"))
    assert "m.gguf: tokenizer.ggml.pre: got 'nonesuch'" in text


def test_damaged_gguf_is_refused(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:2000])
    text = refusal(path)
    assert f"{path}: got the setting 'tokenizer.ggml.tokens' with a text beyond the file" in text


def test_settings_that_do_not_fit_together_are_refused(folder: Path) -> None:
    edit_json(folder / "config.json", hidden_size=63)
    assert "files that transformers cannot load (StrictDataclass" in refusal(folder)
