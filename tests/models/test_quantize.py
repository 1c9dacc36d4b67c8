"""Quantised layers multiply by what they say, within bounds that follow from their steps."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.errors import ModelError
from tunesmith.models import fast, linear
from tunesmith.models.int8 import SEGMENT, Int8Linear, Int8Weight
from tunesmith.models.kernels import build, int8
from tunesmith.models.kernels.int8 import quantize_rows, scale_sums
from tunesmith.models.load import load
from tunesmith.models.nf4 import Nf4Linear
from tunesmith.models.policy import Policy
from tunesmith.models.quantize import (
    KINDS,
    dequantize,
    kind_of,
    num_bytes,
    num_parameters,
    quantize,
)
from tunesmith.models.resolve import resolve
from tunesmith.testing.tiny import tiny_model


@pytest.fixture(params=["int8", "nf4"])
def kind(request):
    if request.param == "nf4":
        pytest.importorskip("bitsandbytes", reason="nf4 needs the extra `quant`")
    return request.param


def _linear(outputs, inputs, bias=False, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias, dtype=dtype).requires_grad_(False)


def _quantized(kind, seed=0, dtype=torch.float32):
    model = tiny_model(seed).to(dtype).requires_grad_(False)
    quantize(model, kind)
    return model


def _adapted(model, **keys):
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", **keys)
    peft_model = get_peft_model(model, config)
    for name, parameter in peft_model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return peft_model


def _gradients(model, ids, kernels="fast"):
    """Loss and gradients of a pack of two examples."""
    model.zero_grad()
    half = ids.shape[1] // 2
    rows = [np.asarray(row, np.int32) for row in (ids[0, :half], ids[0, half:])]
    examples = [
        Example(row, np.arange(len(row)) > 0, "rows.jsonl", i) for i, row in enumerate(rows)
    ]
    inner = model.base_model.model
    batch = collate(examples, packed=True, pad_id=0)
    loss = Policy(inner, kernels, inner.dtype).loss_sum(batch) / ids.shape[1]
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in model.parameters() if p.requires_grad]


def _distance(got, expected):
    got, expected = (
        torch.cat([g.detach().flatten() for g in got]),
        torch.cat([e.detach().flatten() for e in expected]),
    )
    return float((got - expected).norm() / expected.norm())


def test_rows_are_rounded_as_by_hand():
    x = torch.tensor([[12.7, -6.35, 0.04, 0.16], [0.0, 0.0, 0.0, 0.0], [-254.0, 3.0, 1.0, -1.1]])
    values, scale = quantize_rows(x)
    # Row 1: scale 0.1; -63.5 to the even -64, 0.4 to 0, 1.6 to 2.
    # Row 3: scale 2; 1.5 to the even 2, 0.5 to the even 0, -0.55 to -1.
    assert values.tolist() == [[127, -64, 0, 2], [0, 0, 0, 0], [-127, 2, 0, -1]]
    torch.testing.assert_close(scale, torch.tensor([0.1, 0.0, 2.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_rounding_is_off_by_half_a_step_at_most(dtype, size):
    torch.manual_seed(0)
    x = (torch.randn(50, 64) * size).to(dtype)
    values, scale = quantize_rows(x)
    error = (values * scale[:, None] - x.float()).abs()
    assert values.abs().amax() == 127
    assert (error <= 0.5001 * scale[:, None]).all()


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("terms", [64, int8.MOST_TERMS, int8.MOST_TERMS + 1, 2500])
def test_sums_are_exact_whichever_way_they_are_made(terms, rows, monkeypatch):
    numbers = torch.Generator().manual_seed(0)
    a = torch.randint(-127, 128, (rows, terms), dtype=torch.int8, generator=numbers)
    b = torch.randint(-127, 128, (terms, 24), dtype=torch.int8, generator=numbers)
    a[0], b[:, 0] = 127, 127  # Sums as large as can be.
    exact = a.long() @ b.long()
    for integers in (True, False):
        monkeypatch.setattr(int8, "in_integers", lambda found=integers: found)
        for laid in (b, b.t().contiguous().t()):
            assert torch.equal(int8.sums(a, laid).long(), exact)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so_and_stays_in_its_row(bad):
    x = torch.ones(2, 64)
    x[0, 3] = bad
    y = Int8Linear(_linear(8, 64))(x)
    assert not y[0].isfinite().any()
    assert y[1].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_kernels_round_as_torch_does(dtype, monkeypatch):
    if build.library() is None:
        pytest.skip("no C compiler here")
    torch.manual_seed(0)
    x = torch.randn(70, 333).to(dtype) * torch.logspace(-9, 9, 70)[:, None].to(dtype)
    x[3], part, factor = 0, x[:, 40:300], torch.rand(260)
    sums = torch.randint(-(2**24), 2**24, (70, 260), dtype=torch.int32)
    added = torch.randn(70, 260)

    def made():
        values, scale = quantize_rows(part, factor)
        return [values, scale, *quantize_rows(x), scale_sums(sums, scale, factor, added, dtype)]

    compiled = made()
    monkeypatch.setattr(build, "library", lambda: None)
    plain = made()
    assert all(torch.equal(a, b) for a, b in zip(compiled[:4], plain[:4], strict=True))
    limit = 1e-6 if dtype is torch.float32 else 2**-8
    torch.testing.assert_close(compiled[4], plain[4], rtol=limit, atol=1e-6)


def test_int8_products_by_hand():
    linear = nn.Linear(2, 2, bias=False)
    linear.weight.data = torch.tensor([[1.27, 0.1], [0.0, -2.54]])
    layer = Int8Linear(linear)
    assert layer.weight.tolist() == [[127, 10], [0, -127]]
    x = torch.tensor([[127.0, 4.0]], requires_grad=True)
    y = layer(x)
    # Whole numbers are their own rounding: 127 * 1.27 + 4 * 0.1, and -4 * 2.54.
    torch.testing.assert_close(y, torch.tensor([[161.69, -10.16]]))
    y.backward(torch.tensor([[2.0, 1.0]]))
    # d y times the scales 0.01 and 0.02 is (0.02, 0.02), so both become 127 with scale 0.02 / 127.
    torch.testing.assert_close(x.grad, torch.tensor([[2.54, 0.2 - 2.54]]))


@pytest.mark.parametrize("rows", [0, 1, 2, 16, 17, 100])
@pytest.mark.parametrize(("outputs", "inputs"), [(64, 64), (65, 30), (192, 128), (1, 7)])
def test_int8_products_are_within_their_roundings(rows, outputs, inputs):
    linear = _linear(outputs, inputs, bias=True)
    layer = Int8Linear(linear)
    x, d_y = torch.randn(rows, inputs), torch.randn(rows, outputs)
    wide = layer.dequantized(torch.float32)
    x_low, x_wide = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = layer(x_low), wide(x_wide)
    y.backward(d_y)
    expected.backward(d_y)
    # Each of the terms is off by half a step of its row at most.
    step = x.abs().amax(1, keepdim=True) / 127 / 2
    assert ((y - expected).abs() <= 1.001 * step * wide.weight.abs().sum(1) + 1e-5).all()
    folded = d_y * layer.scale_O
    step = folded.abs().amax(1, keepdim=True) / 127 / 2
    bound = 1.001 * step * layer.weight.abs().sum(0).float() + 1e-5
    assert ((x_low.grad - x_wide.grad).abs() <= bound).all()
    assert ((linear.weight - wide.weight).abs() <= 0.5001 * layer.scale_O[:, None]).all()


@pytest.mark.parametrize("served", [True, False])
def test_a_large_feature_leaves_the_others_their_precision(served, monkeypatch):
    if not served:
        monkeypatch.setattr(Int8Weight, "served", False)
    layer = Int8Linear(_linear(256, 256))
    x = torch.randn(8, 256, requires_grad=True)
    with torch.no_grad():
        x[:, 3] *= 1000
    away = torch.arange(256) >= SEGMENT
    expected = (x * away) @ layer.weight_in(torch.float32).t()
    got = layer(x) - layer(x * ~away)
    assert _distance([got], [expected]) < 0.01
    # The gradient too: of a few outputs a hundred times larger, none of the others is lost.
    d_y = torch.randn(8, 256)
    d_y[:, 200] *= 1000
    (d_x,) = torch.autograd.grad(layer(x), x, d_y)
    (of_large,) = torch.autograd.grad(layer(x), x, d_y * ~(torch.arange(256) < 192))
    wide = (d_y * (torch.arange(256) < 192)) @ layer.weight_in(torch.float32)
    assert _distance([d_x - of_large], [wide]) < 0.01


def test_int8_rows_do_not_depend_on_the_rows_beside_them():
    layer, x = Int8Linear(_linear(65, 30)), torch.randn(40, 30)
    alone = torch.cat([layer(row[None]) for row in x])
    assert torch.equal(layer(x), alone)


def test_nf4_values_are_those_of_the_paper():
    pytest.importorskip("bitsandbytes", reason="nf4 needs the extra `quant`")
    linear = nn.Linear(64, 64, bias=False)
    # QLoRA, appendix E: four of the sixteen values; blocks of 64 have one scale, here 2.
    row = torch.tensor([-1.0, -0.6961928009986877, 0.0, 1.0]).repeat(16)
    linear.weight.data = 2 * row.repeat(64, 1)
    torch.testing.assert_close(Nf4Linear(linear).weight_in(torch.float32), linear.weight.data)


def test_nf4_multiplies_by_its_own_weight():
    pytest.importorskip("bitsandbytes", reason="nf4 needs the extra `quant`")
    layer = Nf4Linear(_linear(96, 64, bias=True))
    wide = layer.dequantized(torch.float32)
    x = torch.randn(2, 5, 64, requires_grad=True)
    layer(x).square().sum().backward()
    got, x.grad = x.grad, None
    wide(x).square().sum().backward()
    torch.testing.assert_close(got, x.grad)
    # Half of the widest gap between two of the sixteen values is 0.152 of the largest in a block.
    blocks = _linear(96, 64, bias=True).weight.view(-1, 64)
    error = (wide.weight.view(-1, 64) - blocks).abs()
    assert (error <= 0.16 * blocks.abs().amax(1, keepdim=True)).all()


def test_blocks_are_quantized_and_nothing_else(kind):
    model, plain = _quantized(kind), tiny_model(0)
    layers = [m for m in model.modules() if type(m) is KINDS[kind]]
    assert len(layers) == 2 * 7
    assert type(model.lm_head) is nn.Linear
    assert torch.equal(model.lm_head.weight, plain.lm_head.weight)
    assert kind_of(model) == kind
    assert kind_of(plain) == "none"
    assert num_parameters(model) == num_parameters(plain)
    blocks = sum(layer.num_weights for layer in layers)
    each = {"int8": 1.0, "nf4": 0.5}[kind]
    scales = sum(layer.num_bytes for layer in layers) - each * blocks
    assert 0 < scales < (0.1 if kind == "int8" else 0.9) * blocks
    assert num_bytes(model) == num_bytes(plain) - 4 * blocks + each * blocks + scales


def test_quantizing_twice_gives_the_same_bits(kind):
    ids = torch.arange(12)[None]
    first, second = (_quantized(kind)(input_ids=ids).logits for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(("which", "limit"), [("int8", 0.02), ("nf4", 0.2)])
def test_answers_stay_near_those_of_the_wide_base(which, limit):
    if which == "nf4":
        pytest.importorskip("bitsandbytes", reason="nf4 needs the extra `quant`")
    ids = torch.arange(200)[None]
    with torch.no_grad():
        got, expected = (m(input_ids=ids).logits for m in (_quantized(which), tiny_model(0)))
    assert 0 < _distance([got], [expected]) < limit


def test_a_base_without_linear_layers_is_refused():
    gpt2 = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=32))
    with pytest.raises(
        ModelError, match=r"model.quantize: int8: got GPT2LMHeadModel, whose blocks"
    ):
        quantize(gpt2, "int8")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fast_lora_equals_peft_over_the_same_layers(kind, dtype):
    model = _adapted(_quantized(kind, dtype=dtype))
    ids = torch.randint(0, 256, (1, 60))
    expected_loss, expected = _gradients(model, ids, "reference")
    laid = fast.lay_over(model.base_model.model)
    assert (laid["attention"], laid["feed-forward"]) == (2, 2)
    loss, got = _gradients(model, ids)
    limit = 1e-5 if dtype is torch.float32 else 0.02
    torch.testing.assert_close(loss, expected_loss, rtol=limit, atol=0)
    assert {g.dtype for g in got} == {torch.float32}
    # Where a sum is taken in another order, an activation may round to the next whole number.
    assert _distance(got, expected) < (2e-3 if dtype is torch.float32 else 0.05)
    fast.take_off(model)
    assert torch.equal(_gradients(model, ids, "reference")[0], expected_loss)


def test_gradients_are_near_those_over_the_dequantized_weight(kind):
    ids = torch.randint(0, 256, (1, 60))
    model = _adapted(_quantized(kind))
    fast.lay_over(model.base_model.model)
    loss, got = _gradients(model, ids)
    fast.take_off(model)
    dequantize(model, torch.float32)
    expected_loss, expected = _gradients(model, ids, "reference")
    torch.testing.assert_close(loss, expected_loss, rtol=2e-3, atol=0)
    assert _distance(got, expected) < (0.03 if kind == "int8" else 1e-4)


@pytest.mark.parametrize("keys", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_variants_keep_pefts_own_path(keys):
    model = _adapted(_quantized("int8"), **keys)
    assert not any(linear.fits(m) for m in model.modules() if isinstance(m, LoraLinear))


def test_disabled_adapter_answers_as_the_quantized_base(kind):
    model = _adapted(_quantized(kind))
    fast.lay_over(model.base_model.model)
    ids = torch.arange(9)[None]
    with torch.no_grad(), model.disable_adapter():
        got = model(input_ids=ids).logits
    torch.testing.assert_close(got, _quantized(kind)(input_ids=ids).logits)


def test_a_saved_adapter_loads_in_plain_peft_over_the_wide_base(kind, tmp_path):
    model = _adapted(_quantized(kind))
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    loaded = PeftModel.from_pretrained(tiny_model(0), tmp_path)
    ids = torch.arange(100)[None]
    got, expected = loaded(input_ids=ids).logits, model(input_ids=ids).logits
    assert 0 < _distance([got], [expected]) < 0.3


def test_gradients_reach_the_adapter_through_checkpointing(kind):
    model = _adapted(_quantized(kind))
    fast.lay_over(model.base_model.model)
    ids = torch.randint(0, 256, (1, 60))
    _, expected = _gradients(model, ids)
    model.train()
    model.base_model.model.activation_checkpointing_enable({"use_reentrant": False})
    _, got = _gradients(model, ids)
    assert _distance(got, expected) < 1e-6


def test_mixed_precision_runs_in_the_type_of_autocast():
    layer = Int8Linear(_linear(64, 64))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 64)).dtype is torch.bfloat16
    assert layer(torch.randn(2, 64)).dtype is torch.float32


@pytest.mark.slow
def test_the_starter_answers_nearly_as_before(kind, starter):
    base = load(resolve(str(starter), None), torch.float32)
    text = "The sun rises in the east and sets in the west. Water boils at 100 degrees."
    ids = torch.tensor([base.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        wide = float(base.model(input_ids=ids, labels=ids).loss)
        before = num_bytes(base.model)
        quantize(base.model, kind)
        loss = float(base.model(input_ids=ids, labels=ids).loss)
    # The starter comes in 4 bits, on another grid than that of NF4, so NF4 rounds it a second time.
    assert loss == pytest.approx(wide, rel=0.02 if kind == "int8" else 0.2)
    # 106 M weights of the blocks, by 3 and by 3.48 bytes less each.
    assert before - num_bytes(base.model) == pytest.approx(
        106e6 * (3 if kind == "int8" else 3.48), rel=0.01
    )
