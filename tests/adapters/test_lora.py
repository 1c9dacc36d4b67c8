"""LoRA reaches every linear layer of the blocks, and says what it left out."""

import json

import pytest
import torch
from peft import PeftModel

from tunesmith.adapters import lora
from tunesmith.errors import RecipeError
from tunesmith.testing.tiny import tiny_model

LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_auto_covers_every_linear_layer_of_the_blocks_and_reports_the_rest():
    attached = lora.attach(tiny_model(seed=0), lora.Config(), seed=0)
    assert attached.targeted == dict.fromkeys(LINEAR, 2)
    assert attached.untargeted["embed_tokens"] == 1
    assert not LINEAR & attached.untargeted.keys()


def test_named_targets_and_the_number_of_parameters_by_hand():
    attached = lora.attach(tiny_model(seed=0), lora.Config(rank=4, targets=["q_proj"]), seed=0)
    # Two layers of A (4 x 64) and B (64 x 4).
    assert attached.num_trained == 2 * (4 * 64 + 64 * 4)
    assert attached.targeted == {"q_proj": 2}


def test_a_target_that_is_not_there_is_refused():
    with pytest.raises(RecipeError, match="adapter.targets: got 'c_attn'; expected linear layers"):
        lora.attach(tiny_model(seed=0), lora.Config(targets=["c_attn"]), seed=0)


def test_alpha_defaults_to_twice_the_rank_and_scales_the_update(tmp_path):
    attached = lora.attach(tiny_model(seed=0), lora.Config(rank=8), seed=0)
    lora.write(attached, tmp_path, "base")
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (written["r"], written["lora_alpha"]) == (8, 16)


def test_peft_loads_what_was_written_with_equal_logits(tmp_path):
    attached = lora.attach(tiny_model(seed=0), lora.Config(rank=4), seed=0)
    with torch.no_grad():
        for parameter in attached.trained.values():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    lora.write(attached, tmp_path, "base")
    loaded = PeftModel.from_pretrained(tiny_model(seed=0), tmp_path)
    ids = torch.arange(10)[None]
    got, want = loaded(input_ids=ids).logits, attached.model(input_ids=ids).logits
    assert torch.equal(got, want)
    with attached.disabled():
        assert not torch.equal(attached.model(input_ids=ids).logits, want)
