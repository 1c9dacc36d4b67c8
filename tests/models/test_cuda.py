"""What runs on a GPU alone, against transformers, PEFT and plain torch on the same GPU."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from transformers import MistralConfig, MistralForCausalLM, Qwen3Config, Qwen3ForCausalLM

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.models import fast
from tunesmith.models.fp8 import Fp8Weight, quantize_rows
from tunesmith.models.kernels import liger
from tunesmith.models.kernels.gate import gated
from tunesmith.models.kernels.norm import rms_norm
from tunesmith.models.policy import Policy

DEVICE = torch.device("cuda")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

COMMON = {
    "vocab_size": 320,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
BASES = {
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**COMMON)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**COMMON, sliding_window=8)),
}


def _batch():
    draw = np.random.default_rng(0)
    examples = [
        Example(draw.integers(1, 320, n).astype(np.int32), np.arange(n) >= n // 2, "rows", i)
        for i, n in enumerate((12, 5, 300, 40, 8))
    ]
    return collate(examples, packed=True, pad_id=0).to(DEVICE)


def _adapted(name, dtype):
    torch.manual_seed(0)
    model = BASES[name]().to(dtype).requires_grad_(False)
    adapted = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear")).to(DEVICE)
    for part, parameter in adapted.named_parameters():
        if "lora_B" in part:
            torch.nn.init.normal_(parameter, std=0.1)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def _loss_and_gradients(model, kernels, precision):
    (fast.lay_over if kernels == "fast" else fast.take_off)(model)
    model.zero_grad(set_to_none=True)
    loss = Policy(model, kernels, precision).loss_sum(_batch())
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-3), (torch.bfloat16, 5e-2)])
def test_lora_equals_peft(name, dtype, limit):
    model = _adapted(name, dtype)
    expected_loss, expected = _loss_and_gradients(model, "reference", dtype)
    loss, gradients = _loss_and_gradients(model, "fast", dtype)
    torch.testing.assert_close(loss, expected_loss, rtol=limit, atol=0)
    assert gradients.keys() == expected.keys()
    for part, gradient in gradients.items():
        assert (gradient - expected[part]).norm() < limit * expected[part].norm(), part


def test_a_step_waits_for_the_device_nowhere():
    model = _adapted("qwen3", torch.bfloat16)
    _loss_and_gradients(model, "fast", torch.bfloat16)
    policy, batch = Policy(model, "fast", torch.bfloat16), _batch()
    torch.cuda.set_sync_debug_mode("error")
    try:
        policy.loss_sum(batch).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_kernels_of_liger_equal_torch(activation, monkeypatch):
    if liger.describe() is None:
        pytest.skip("the extra gpu is not installed")
    torch.manual_seed(0)
    x = torch.randn(1, 77, 256, device=DEVICE, requires_grad=True)
    weight = torch.randn(256, device=DEVICE, requires_grad=True)
    answers = []
    for serves in (liger.serves, lambda *tensors: False):
        monkeypatch.setattr(liger, "serves", serves)
        y = gated(rms_norm(x, weight, 1e-5), activation)
        answers.append((y, *torch.autograd.grad(y.square().sum(), (x, weight))))
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-4, atol=1e-4)


def test_fp8_products_equal_those_of_the_rounded_numbers():
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no FP8")
    torch.manual_seed(0)
    dense, x = torch.randn(512, 256, device=DEVICE), torch.randn(77, 256, device=DEVICE)
    x = x.bfloat16()
    values, scale = quantize_rows(dense)
    x_values, x_scale = quantize_rows(x)
    expected = F.linear(x_values.float() * x_scale, values.float() * scale)
    got = Fp8Weight.of(values, scale).times(x).float()
    assert (got - expected).norm() < 1e-2 * expected.norm()
