"""The fast LoRA path computes what PEFT computes."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tunesmith.models import lora
from tunesmith.testing.tiny import tiny_model


def _adapted(dtype=torch.float32, **keys):
    torch.manual_seed(0)
    model = tiny_model(seed=0).to(dtype)
    model.requires_grad_(False)
    peft_model = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", **keys)
    )
    for name, parameter in peft_model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return peft_model


def _gradients(model, ids):
    model.zero_grad()
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"),
    [
        (torch.float32, 1e-4, 1e-6),
        (torch.bfloat16, 0.1, 2e-2),
    ],
)
def test_loss_and_gradients_equal_peft(dtype, rtol, atol):
    model = _adapted(dtype)
    ids = torch.randint(0, 256, (2, 20))
    expected_loss, expected = _gradients(model, ids)
    layers = lora.lay_over(model)
    assert layers == 2 * 7
    loss, got = _gradients(model, ids)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-2 if atol > 1e-3 else 1e-5, atol=1e-5)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def test_masters_stay_fp32_beside_a_bf16_base():
    model = _adapted(torch.bfloat16)
    lora.lay_over(model)
    _, gradients = _gradients(model, torch.randint(0, 256, (1, 8)))
    assert {g.dtype for g in gradients} == {torch.float32}


def test_disabled_adapter_answers_as_the_base():
    model = _adapted()
    lora.lay_over(model)
    ids = torch.randint(0, 256, (1, 8))
    with torch.no_grad(), model.disable_adapter():
        got = model(input_ids=ids).logits
    torch.testing.assert_close(got, tiny_model(seed=0)(input_ids=ids).logits.detach())


def test_taking_off_gives_back_pefts_forward():
    model = _adapted()
    lora.lay_over(model)
    lora.take_off(model)
    assert not any("forward" in layer.__dict__ for layer in model.modules())


@pytest.mark.parametrize("keys", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_variants_keep_pefts_own_path(keys):
    assert lora.lay_over(_adapted(**keys)) == 0
