"""FP8 rounding against values by hand, its products against fp32 ones of the rounded numbers."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.models import fast
from tunesmith.models.fp8 import E4M3, Fp8Linear, Fp8Weight, quantize_rows
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import tiny_model


def _random(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _weight(dense):
    return Fp8Weight.of(*quantize_rows(dense))


def _rounded(x):
    values, scale = quantize_rows(x)
    return values.float() * scale


def test_rounding_by_hand():
    # 896 = 2 x 448, so the scale is 2: 100 / 2 = 50 lies between 48 and 52 (steps of 4), a tie that
    # goes to the even digit, 48; -3 / 2 = -1.5 is a number of e4m3; 0.001 / 2 is below 2^-10, half
    # the smallest.
    values, scale = quantize_rows(torch.tensor([[896.0, 100.0, -3.0, 0.001]]))
    assert scale.item() == 2.0
    assert values.dtype is E4M3
    assert values.float().tolist() == [[448.0, 48.0, -1.5, 0.0]]


@pytest.mark.parametrize(
    ("largest", "scale"),
    [(448.0, 1.0), (448.5, 2.0), (896.0, 2.0), (7.0, 2.0**-6), (7.01, 2.0**-5), (1.0, 2.0**-8)],
)
def test_the_scale_is_the_least_power_of_two_that_the_largest_fits_under(largest, scale):
    values, got = quantize_rows(torch.tensor([[-largest, 0.0]]))
    assert got.item() == scale
    assert values.float().abs().max() <= 448.0


def test_a_row_of_zeros_stays_one():
    values, scale = quantize_rows(torch.zeros(2, 16))
    assert values.float().abs().max() == 0.0
    assert torch.isfinite(scale).all()
    assert (_weight(torch.zeros(16, 16)).times(_random(3, 16)) == 0.0).all()


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_what_is_not_finite_is_not_hidden(bad):
    """A clamp alone would turn infinity into 448, and a step that should be rejected would pass."""
    x = _random(3, 16)
    x[1, 5] = bad
    y = _weight(_random(32, 16, seed=1)).times(x)
    assert torch.isnan(y[1]).all()
    assert torch.isfinite(y[[0, 2]]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-30, 1e-3, 1.0, 1e30])
def test_rounding_is_within_its_bound(dtype, size):
    x = _random(64, 512, dtype=dtype) * size
    _, scale = quantize_rows(x)
    distance = (_rounded(x) - x.float()).abs()
    assert (distance <= torch.maximum(x.float().abs() / 16, scale * 2.0**-10)).all()


def test_both_copies_hold_the_same_numbers():
    weight = _weight(_random(48, 64) * 0.02)
    forward = weight.values_OI.float() * weight.scale_O1
    backward = (weight.values_IO.float() * weight.scale_I1).t()
    assert torch.equal(forward, backward)


def test_the_second_copy_loses_only_what_is_tiny_beside_the_largest_of_its_row():
    dense = _random(32, 32) * 0.02
    dense[3, 7] = 10_000.0
    weight = _weight(dense)
    forward = weight.values_OI.float() * weight.scale_O1
    backward = (weight.values_IO.float() * weight.scale_I1).t()
    distance = (forward - backward).abs()
    assert distance[:, 7].max() > 0.0
    assert (distance <= 2.0**-10 * weight.scale_I1.t()).all()


@pytest.mark.parametrize("rows", [1, 5, 33])
def test_products_equal_those_of_the_rounded_numbers(rows):
    dense, x, d_y = _random(48, 64) * 0.02, _random(rows, 64, seed=1), _random(rows, 48, seed=2)
    weight = _weight(dense)
    held = _rounded(dense)
    torch.testing.assert_close(weight.times(x), _rounded(x) @ held.t(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        weight.times_transposed(d_y), _rounded(d_y) @ held, rtol=1e-5, atol=1e-6
    )


def test_rows_that_do_not_lie_side_by_side():
    weight, x = _weight(_random(32, 16)), _random(16, 5)
    torch.testing.assert_close(weight.times(x.t()), weight.times(x.t().contiguous()))


def test_layer_by_its_parts():
    plain = nn.Linear(64, 48)
    layer = Fp8Linear(plain)
    x = _random(2, 5, 64, dtype=torch.bfloat16).requires_grad_()
    y = layer(x)
    assert y.shape == (2, 5, 48)
    assert y.dtype is torch.bfloat16
    expected = _rounded(x.detach().view(10, 64)) @ layer.weight_in(torch.float32).t() + plain.bias
    torch.testing.assert_close(y.view(10, 48).float(), expected, rtol=2e-2, atol=2e-2)
    d_y = _random(2, 5, 48, dtype=torch.bfloat16, seed=1)
    (d_x,) = torch.autograd.grad(y, x, d_y)
    back = _rounded(d_y.view(10, 48)) @ layer.weight_in(torch.float32)
    torch.testing.assert_close(d_x.view(10, 64).float(), back, rtol=2e-2, atol=2e-2)


def test_two_copies_take_the_bytes_of_one_in_bf16():
    layer = Fp8Linear(nn.Linear(64, 48, bias=False))
    assert layer.num_bytes == 2 * 64 * 48 + 4 * (64 + 48)


def test_layers_together_multiply_as_each_alone():
    layers = [Fp8Linear(nn.Linear(64, outputs, bias=False)) for outputs in (48, 16, 32)]
    x, d_y = _random(5, 64), _random(5, 96, seed=1)
    alone = torch.cat([layer(x) for layer in layers], 1)
    dense = torch.cat([layer.weight_in(torch.float32) for layer in layers])
    together = Fp8Linear.together(layers)
    torch.testing.assert_close(together.times(x), alone, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        together.times_transposed(d_y), _rounded(d_y) @ dense, rtol=1e-5, atol=1e-6
    )


def test_a_layer_that_lies_beside_others_still_works_alone():
    layers = [Fp8Linear(nn.Linear(64, outputs, bias=False)) for outputs in (48, 16, 32)]
    x, d_y, part = _random(5, 64), _random(5, 16, seed=1), layers[1]
    y, dense = part(x), part.weight_in(torch.float32)
    Fp8Linear.together(layers)
    assert torch.equal(part(x), y)
    torch.testing.assert_close(
        Fp8Linear.together([part]).times_transposed(d_y),
        _rounded(d_y) @ dense,
        rtol=1e-5,
        atol=1e-6,
    )


def test_layers_together_are_not_held_twice():
    layers = [Fp8Linear(nn.Linear(64, outputs, bias=False)) for outputs in (48, 16, 32)]
    whole = Fp8Linear.together(layers)
    for name, held in (("weight", whole.values_OI), ("back", whole.values_IO)):
        storages = {getattr(layer, name).untyped_storage().data_ptr() for layer in layers}
        assert storages == {held.untyped_storage().data_ptr()}


def _quantized(**keys):
    model = tiny_model(seed=0, **keys).requires_grad_(False)
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and module is not model.lm_head:
            model.set_submodule(name, Fp8Linear(module))
    return model


def _adapted():
    model = _quantized(num_hidden_layers=1)
    torch.manual_seed(0)
    get_peft_model(model, LoraConfig(target_modules="all-linear", r=4, init_lora_weights=False))
    return model


def test_the_fast_path_takes_it_and_equals_peft():
    """To rounding: together, q, k and v have one scale for a row of d y, and not three."""
    batch = collate([Example(np.arange(40, dtype=np.int32), np.arange(40) > 0, "rows", 1)], True, 0)
    answers = {}
    for kernels in ("reference", "fast"):
        model = _adapted()
        if kernels == "fast":
            laid = fast.lay_over(model)
            assert (laid["attention"], laid["feed-forward"]) == (1, 1)
        loss = Policy(model, kernels, torch.float32).loss_sum(batch)
        loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        answers[kernels] = loss.detach(), gradients
    (loss, got), (expected_loss, expected) = answers["fast"], answers["reference"]
    torch.testing.assert_close(loss, expected_loss, rtol=1e-4, atol=0)
    assert got.keys() == expected.keys()
    for name, gradient in got.items():
        assert (gradient - expected[name]).norm() < 0.1 * expected[name].norm(), name


def test_lora_learns_beside_it_and_starts_in_fp32():
    model = _quantized()
    expected = get_peft_model(tiny_model(seed=0), LoraConfig(target_modules="all-linear", r=4))
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", r=4))
    layer = adapted.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
    a = layer.lora_A["default"].weight
    assert type(layer.base_layer) is Fp8Linear
    assert a.dtype is torch.float32
    assert len(a.unique()) == a.numel()  # Rounded to FP8, there would be a few dozen values.
    ids = torch.arange(40)[None]
    far = (adapted(input_ids=ids).logits - expected(input_ids=ids).logits).norm()
    assert far < 0.1 * expected(input_ids=ids).logits.norm()
    adapted(input_ids=ids, labels=ids).loss.backward()
    b = layer.lora_B["default"].weight
    assert b.grad.abs().max() > 0.0
    assert all(p.grad is None for n, p in adapted.named_parameters() if "lora" not in n)
