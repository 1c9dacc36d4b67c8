"""The fast paths compute what transformers and PEFT compute, for bases of several shapes."""

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer
from transformers import GlmConfig, GlmForCausalLM, StableLmConfig, StableLmForCausalLM

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.errors import ModelError
from tunesmith.models import blocks, fast, varlen
from tunesmith.models.kernels import build, liger
from tunesmith.models.policy import Policy
from tunesmith.testing import fake_gpu
from tunesmith.testing.bases import BASES, lora_base, random_base
from tunesmith.testing.tiny import tiny_model

ATTENTION = {"gpt2": 0, "phi3": 0}
"""Fast attention modules where they are not both: these two make q, k and v in one layer."""
LENGTHS = (12, 5, 300, 40, 8)
SMALL = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
"""Of bases that are not in BASES, because fast paths are not for them."""


def _batch(packed=True):
    rng = np.random.default_rng(0)
    examples = [
        Example(rng.integers(1, 320, n).astype(np.int32), np.arange(n) >= n // 2, "rows.jsonl", i)
        for i, n in enumerate(LENGTHS)
    ]
    return collate(examples, packed=packed, pad_id=0)


def _loss_and_gradients(model, kernels, precision=torch.float32, packed=True):
    model.zero_grad(set_to_none=True)
    (fast.lay_over if kernels == "fast" else fast.take_off)(model)
    loss = Policy(model, kernels, precision).loss_sum(_batch(packed))
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return loss.detach(), gradients


def _require_close(got, expected, rtol):
    assert got.keys() == expected.keys()
    for name, gradient in got.items():
        distance = (gradient - expected[name]).norm() / expected[name].norm()
        assert distance < rtol, f"{name}: {distance:.2e}"


@pytest.fixture(params=["native", "torch", "gpu"])
def computed_by(request, monkeypatch):
    """The compiled kernels, torch in their place, and what a GPU takes, with stand-ins for it."""
    if request.param == "native":
        if build.library() is None:
            pytest.skip("there is no C compiler here")
        return
    monkeypatch.setattr(build, "library", lambda: None)
    if request.param == "gpu":
        monkeypatch.setattr(blocks, "_seen_on_cpu", blocks._seen)
        monkeypatch.setattr(liger, "_ops", lambda: fake_gpu)
        monkeypatch.setattr(liger, "serves", lambda *tensors: True)
        monkeypatch.setattr(varlen, "serves", lambda *facts: True)
        monkeypatch.setattr(varlen, "_function", lambda: fake_gpu.varlen_attn)


@pytest.mark.parametrize("name", BASES)
def test_lora_equals_peft(name, computed_by):
    model = lora_base(name)
    expected_loss, expected = _loss_and_gradients(model, "reference")
    loss, gradients = _loss_and_gradients(model, "fast")
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=0)
    _require_close(gradients, expected, 1e-4)


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("packed", [True, False])
def test_full_equals_transformers(name, packed):
    model = random_base(name)
    expected_loss, expected = _loss_and_gradients(model, "reference", packed=packed)
    loss, gradients = _loss_and_gradients(model, "fast", packed=packed)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=0)
    _require_close(gradients, expected, 1e-4)


@pytest.mark.parametrize("name", BASES)
def test_every_module_that_can_be_is_fast(name, computed_by):
    laid = fast.lay_over(lora_base(name))
    assert laid["attention"] == ATTENTION.get(name, 2)
    assert laid["feed-forward"] == ATTENTION.get(name, 2)
    assert (laid["norm"] > 0) == (name != "gpt2")
    if name == "gpt2":
        assert laid["lora"] == 0
    else:
        assert laid["lora"] == (8 if name == "phi3" else 14)


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_bf16_stays_as_close_to_fp32_as_the_reference_does(adapter):
    """Rounding differs, so each path is held against exact gradients, not against the other.

    For full fine-tuning the sums between the blocks are bf16 here and fp32 under autocast, which is
    the difference that the limit leaves room for.
    """
    make = lora_base if adapter == "lora" else random_base
    _, exact = _loss_and_gradients(make("llama"), "reference")
    dtype = torch.bfloat16 if adapter == "lora" else torch.float32
    distances = {}
    for kernels in ("reference", "fast"):
        model = lora_base("llama", dtype) if adapter == "lora" else random_base("llama")
        _, gradients = _loss_and_gradients(model, kernels, torch.bfloat16)
        distances[kernels] = sum(
            ((gradients[n].float() - exact[n]).norm() / exact[n].norm()).item() for n in exact
        )
    assert distances["fast"] < (1.1 if adapter == "lora" else 1.5) * distances["reference"]


def test_masters_stay_fp32_beside_a_bf16_base():
    model = lora_base(dtype=torch.bfloat16)
    _, gradients = _loss_and_gradients(model, "fast", torch.bfloat16)
    assert {g.dtype for g in gradients.values()} == {torch.float32}


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_step_of_the_optimizer_is_seen_by_the_next_pass(adapter):
    model = lora_base() if adapter == "lora" else random_base("llama")
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, fused=True)
    _loss_and_gradients(model, "fast", torch.bfloat16)
    optimizer.step()
    after = Policy(model, "fast", torch.bfloat16).loss_sum(_batch()).detach()
    fast.lay_over(model)  # Nothing is kept from before.
    fresh = Policy(model, "fast", torch.bfloat16).loss_sum(_batch()).detach()
    assert torch.equal(after, fresh)


def test_disabled_adapter_answers_as_the_base():
    model = lora_base()
    fast.lay_over(model)
    ids = torch.randint(0, 256, (1, 8))
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.enable_adapters(False)
    with torch.no_grad():
        got = model(input_ids=ids).logits
        expected = random_base("llama")(input_ids=ids).logits
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_weights_are_not_held_twice():
    model = random_base("llama")
    fast.lay_over(model)
    first = model.model.layers[0].self_attn
    storages = {p.weight.untyped_storage().data_ptr() for p in (first.q_proj, first.k_proj)}
    assert len(storages) == 1
    before = first.q_proj.weight.data_ptr()
    fast.lay_over(model)
    assert first.q_proj.weight.data_ptr() == before


def test_taking_off_gives_back_the_modules_own_forward():
    model = lora_base()
    fast.lay_over(model)
    fast.take_off(model)
    assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("name", ["llama", "llama with biases"])
def test_dora_equals_peft(name):
    model = lora_base(name, use_dora=True)
    expected_loss, expected = _loss_and_gradients(model, "reference")
    assert fast.lay_over(model)["attention"] == 2
    loss, gradients = _loss_and_gradients(model, "fast")
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=0)
    _require_close(gradients, expected, 1e-4)


def test_dropout_keeps_pefts_own_path():
    laid = fast.lay_over(lora_base(lora_dropout=0.1))
    assert laid["lora"] == 0
    assert laid["attention"] == laid["feed-forward"] == 0


def test_adapters_on_some_layers_only():
    model = lora_base(target_modules=["q_proj", "v_proj", "down_proj"])
    expected_loss, expected = _loss_and_gradients(model, "reference")
    loss, gradients = _loss_and_gradients(model, "fast")
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=0)
    _require_close(gradients, expected, 1e-4)


def test_a_module_that_answers_otherwise_keeps_its_own_path():
    model = tiny_model(seed=0)
    for layer in model.model.layers:
        layer.mlp.act_fn = torch.nn.ReLU()
    laid = fast.lay_over(model)
    assert laid["feed-forward"] == 0
    assert laid["attention"] == 2


def test_positions_that_turn_a_part_of_each_head_keep_their_own_path():
    torch.manual_seed(0)
    model = GlmForCausalLM(GlmConfig(**SMALL, head_dim=16)).eval()
    expected_loss, expected = _loss_and_gradients(model, "reference")
    loss, gradients = _loss_and_gradients(model, "fast")
    assert fast.lay_over(model)["attention"] == 0
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=0)
    _require_close(gradients, expected, 1e-4)


def test_a_model_that_keeps_lengths_from_its_attention_cannot_pack():
    model = StableLmForCausalLM(StableLmConfig(**SMALL)).eval()
    assert set(fast.lay_over(model).values()) == {0}
    with pytest.raises(ModelError, match=r"lengths of examples.*\nhint: set data.packing: false"):
        Policy(model, "fast", torch.float32).loss_sum(_batch())
