"""A GGUF becomes a folder that transformers loads by itself, with the same weights."""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.unpack import main
from tunesmith.testing.tiny import CHATML, tiny_model
from tunesmith.testing.tiny_gguf import tiny_gguf


def test_the_folder_holds_model_tokenizer_and_template(tmp_path):
    main(tiny_gguf(tmp_path / "tiny.gguf"), tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", local_files_only=True)
    expected = tiny_model().model.layers[0].mlp.gate_proj.weight.to(torch.bfloat16)
    assert torch.equal(model.model.layers[0].mlp.gate_proj.weight.to(torch.bfloat16), expected)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base", local_files_only=True)
    assert tokenizer.chat_template == CHATML
