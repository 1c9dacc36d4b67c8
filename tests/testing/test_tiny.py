"""The tiny base is what other tests take it for."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.testing.tiny import byte_tokenizer, tiny_base, tiny_model

TEXTS = [
    "",
    " two  spaces, a tab\t and\r\nlines\n\n",
    "héllo 你好 🎉 \u0301 \x00 \ud7ff \U0010ffff",
    "I'm 1,000.50 % sure ( n't ) .",
    "".join(chr(i) for i in range(256)),
    "<|im_start|>user\nhi<|im_end|>\n<|pad|><|other|>",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_encoding_and_decoding(text: str) -> None:
    tokenizer = byte_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_ids_are_the_bytes_of_the_text() -> None:
    assert byte_tokenizer().encode("é🎉 a") == list("é🎉 a".encode())


def test_special_tokens_are_single_ids_and_none_is_added() -> None:
    tokenizer = byte_tokenizer()
    assert tokenizer.encode("<|im_start|>a<|im_end|><|pad|>") == [256, 97, 257, 258]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id) == (
        257,
        258,
        None,
    )


def test_chat_template_is_chatml_without_a_system_prompt() -> None:
    messages = [{"role": "user", "content": "hi"}]
    rendered = byte_tokenizer().apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    assert rendered == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_model_is_the_same_for_a_seed_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = tiny_model(1), tiny_model(1), tiny_model(2)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.lm_head.weight, again.lm_head.weight)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


@pytest.mark.parametrize("tied", [True, False])
def test_head_is_tied_as_asked(tied: bool) -> None:
    model = tiny_model(tied=tied)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied


def test_overrides_reach_the_config() -> None:
    assert len(tiny_model(num_hidden_layers=1).model.layers) == 1


def test_saved_base_loads_as_the_same_base(tmp_path: Path) -> None:
    folder = tiny_base(tmp_path / "base", seed=3)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for name, tensor in tiny_model(3).state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    assert model.generation_config.eos_token_id == 257
    assert [tokenizer.encode(text) for text in TEXTS] == [
        byte_tokenizer().encode(text) for text in TEXTS
    ]
    assert tokenizer.chat_template == byte_tokenizer().chat_template
