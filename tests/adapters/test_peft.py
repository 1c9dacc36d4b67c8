"""Any kind of PEFT by its own keys, which are checked."""

import pytest
import torch
from peft import PeftModel

from tests.adapters.conftest import attach, logits, move, small
from tunesmith.adapters import peft
from tunesmith.config.check import check
from tunesmith.errors import RecipeError


def _read(**keys):
    return check(peft.Config, {"name": "peft", **keys}, "recipe", "adapter")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"kind": "fourier"}, "did you mean fourierft"),
        ({"kind": "adalora"}, "adalora needs to be told of every step"),
        ({"kind": "prompt_tuning"}, "prompt_tuning is adapter.name: prompt"),
        ({"kind": "hra", "rr": 4}, "not 'rr'; did you mean r"),
        ({"kind": "hra", "targt_modules": ["q_proj"]}, "did you mean target_modules"),
        ({"kind": "hra", "task_type": "CAUSAL_LM"}, "not 'task_type'"),
    ],
    ids=str,
)
def test_kinds_and_keys_are_checked(keys, text):
    with pytest.raises(RecipeError, match=text):
        _read(**keys)


@pytest.mark.parametrize(
    "keys",
    [{"kind": "fourierft", "n_frequency": 50}, {"kind": "randlora", "r": 4}, {"kind": "c3a"}],
    ids=str,
)
def test_its_keys_reach_peft_and_peft_reads_the_result(keys, tmp_path):
    keys |= {"block_size": 32} if keys["kind"] == "c3a" else {}
    attached = move(attach(_read(**keys, target_modules=["q_proj", "v_proj"])))
    assert attached.targeted == {"q_proj": 1, "v_proj": 1}
    config = attached.writer.peft_config["default"]
    assert all(getattr(config, key) == v for key, v in keys.items() if key != "kind")
    peft.write(attached, tmp_path, "some/base")
    loaded = PeftModel.from_pretrained(small(), tmp_path)
    assert torch.equal(logits(loaded), logits(attached.model))


def test_what_peft_refuses_is_an_error_of_the_recipe():
    with pytest.raises(RecipeError, match="adapter: got .*Target modules"):
        attach(_read(kind="hra", target_modules=["c_attn"]))
