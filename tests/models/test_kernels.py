"""The C kernels and the torch formulas that stand in for them, against values and each other."""

import math

import pytest
import torch
import torch.nn.functional as F

from tunesmith.models.kernels import build
from tunesmith.models.kernels.gate import gated
from tunesmith.models.kernels.norm import rms_norm
from tunesmith.models.kernels.rotary import rotary_split
from tunesmith.models.kernels.softmax import attend_, attend_backward_, cross_entropy_

SHAPES = [(1, 4), (3, 17), (70, 576)]
"""Below a vector, with a rest, and large enough for both threads."""


@pytest.fixture(params=["native", "torch"], autouse=True)
def computed_by(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(build, "library", lambda: None)
    elif build.library() is None:
        pytest.skip("there is no C compiler here")
    return request.param


def _random(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _gradients(function, *inputs):
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    outs = out if isinstance(out, tuple) else (out,)
    upstream = [_random(*o.shape, dtype=o.dtype, seed=i) for i, o in enumerate(outs)]
    return outs, torch.autograd.grad(outs, leaves, upstream)


def _close(got, expected, dtype):
    limit = 1e-5 if dtype is torch.float32 else 2e-2
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=limit, atol=limit)


def test_norm_by_hand():
    # mean(9, 16) = 12.5; 3 / sqrt(12.5) = 0.848528, 4 / sqrt(12.5) = 1.131371; times 1 and 2.
    y = rms_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0]), 0.0)
    torch.testing.assert_close(y, torch.tensor([[0.848528, 2.262742]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_norm_equals_torch(shape, dtype):
    x, weight = _random(*shape, dtype=dtype), _random(shape[-1], dtype=dtype, seed=1)

    def plain(x, weight):
        return F.rms_norm(x.float(), (shape[-1],), weight.float(), 1e-5).to(dtype)

    got, got_gradients = _gradients(lambda x, w: rms_norm(x, w, 1e-5), x, weight)
    expected, gradients = _gradients(plain, x, weight)
    _close(got, expected, dtype)
    _close(got_gradients[:1], gradients[:1], dtype)
    # The weight's gradient is a sum over rows: compared by its size.
    distance = (got_gradients[1].float() - gradients[1].float()).norm()
    assert distance <= (1e-5 if dtype is torch.float32 else 1e-2) * gradients[1].float().norm()


def test_gate_by_hand():
    # silu(0) = 0 and silu(ln 3) = ln 3 * 3/4; times 5 and 2.
    h = gated(torch.tensor([[0.0, math.log(3.0), 5.0, 2.0]]), "silu")
    torch.testing.assert_close(h, torch.tensor([[0.0, 1.5 * math.log(3.0)]]))


@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_gate_equals_torch(shape, dtype, activation):
    gate_up = _random(shape[0], 2 * shape[1], dtype=dtype) * 3

    def plain(x):
        gate, up = x.float().chunk(2, -1)
        act = F.silu(gate) if activation == "silu" else F.gelu(gate, approximate="tanh")
        return (act * up).to(dtype)

    got, got_gradients = _gradients(lambda x: gated(x, activation), gate_up)
    expected, gradients = _gradients(plain, gate_up)
    _close(got, expected, dtype)
    _close(got_gradients, gradients, dtype)


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_gate_far_out(activation):
    """Where e^x leaves the range of floats the gate is open or shut, not NaN."""
    gate = torch.tensor([-1e4, -200.0, -90.0, 90.0, 200.0, 1e4])
    h = gated(torch.cat([gate, torch.ones(6)])[None], activation)
    torch.testing.assert_close(h[0], torch.tensor([0.0, 0.0, 0.0, 90.0, 200.0, 1e4]))


def _plain_split(qkv, cos, sin, heads, groups):
    tokens, width = cos.shape
    q, k, v = qkv.view(tokens, -1, width).float().split([heads, groups, groups], 1)

    def turn(x):
        half = width // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * cos[:, None] + turned * sin[:, None]

    q = turn(q).view(tokens, groups, heads // groups, width).transpose(0, 1)
    parts = q, turn(k).transpose(0, 1), v.transpose(0, 1)
    return tuple(part.to(qkv.dtype) for part in parts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("tokens", "heads", "groups", "width"), [(3, 4, 2, 6), (90, 9, 3, 64)])
def test_rotary_equals_torch(tokens, heads, groups, width, dtype):
    qkv = _random(tokens, (heads + 2 * groups) * width, dtype=dtype)
    angle = torch.outer(torch.arange(tokens).float(), 0.3 ** torch.arange(width // 2).float())
    cos, sin = torch.cat([angle, angle], 1).cos(), torch.cat([angle, angle], 1).sin()
    got, got_gradients = _gradients(lambda x: rotary_split(x, cos, sin, heads, groups), qkv)
    expected, gradients = _gradients(lambda x: _plain_split(x, cos, sin, heads, groups), qkv)
    _close(got, expected, dtype)
    _close(got_gradients, gradients, dtype)


def test_attention_softmax_by_hand():
    # Two rows a query; query 1 sees keys 0 and 1 with scores 0 and ln 3, query 0 its own key alone.
    scores = torch.tensor([[[5.0, 9.0], [5.0, 9.0], [0.0, math.log(3)], [0.0, math.log(3)]]])
    p = attend_(scores, first=0, each=2, window=9, factor=1.0)
    expected = [[1.0, 0.0], [1.0, 0.0], [0.25, 0.75], [0.25, 0.75]]
    torch.testing.assert_close(p, torch.tensor([expected]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("first", "window"), [(0, 64), (30, 64), (30, 7)])
def test_attention_softmax_equals_torch(first, window, dtype):
    scores = _random(3, 2 * 34, 64, dtype=dtype) * 4
    query = first + torch.arange(2 * 34)[:, None] // 2
    back = query - torch.arange(64)[None]
    seen = (back >= 0) & (back < window)

    def plain(s):
        return torch.softmax((s.float() * 0.5).masked_fill(~seen, -torch.inf), -1).to(dtype)

    expected, (gradient,) = _gradients(plain, scores)
    p = attend_(scores.clone(), first, 2, window, 0.5)
    _close([p], expected, dtype)
    assert not p[:, ~seen].any()
    d_p = _random(*p.shape, dtype=dtype)
    d_s = attend_backward_(p, d_p, first, 2, window, 0.5)
    _close([d_s], [gradient], dtype)
    assert not d_s[:, ~seen].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_equals_torch(shape, dtype):
    logits = _random(*shape, dtype=dtype) * 5
    targets = torch.arange(shape[0]) % shape[1]
    leaf = logits.float().clone().requires_grad_()
    loss = F.cross_entropy(leaf, targets, reduction="none")
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    untouched = logits.clone()
    torch.testing.assert_close(cross_entropy_(untouched, targets, False), loss.detach())
    assert torch.equal(untouched, logits)
    torch.testing.assert_close(cross_entropy_(logits, targets, True), loss.detach())
    _close([logits], [gradient.to(dtype)], dtype)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_stays_so(bad):
    """The guard of the loop can only see what the kernels pass on."""
    x = torch.tensor([[1.0, bad, 3.0, 4.0]])
    assert not rms_norm(x, torch.ones(4), 1e-5).isfinite().all()
    assert not gated(x, "silu").isfinite().all()
    assert not cross_entropy_(x.clone(), torch.tensor([0]), False).isfinite().all()
    assert not attend_(x[None].clone(), 3, 1, 4, 1.0).isfinite().all()


def test_bf16_is_rounded_as_torch_rounds():
    """A norm over ones hands its weights on: each upper half, around the middle to the next."""
    rest = torch.tensor([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    bits = ((torch.arange(65536)[:, None] << 16) + rest).flatten()
    weight = bits.to(torch.int32).view(torch.float32)
    got = rms_norm(torch.ones(1, len(weight), dtype=torch.bfloat16), weight, 0.0)[0]
    expected = weight.to(torch.bfloat16)
    torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)


def test_a_machine_without_compiler_computes_by_torch(monkeypatch):
    monkeypatch.undo()
    build.library.cache_clear()
    monkeypatch.setenv("TUNESMITH_KERNELS", "torch")
    try:
        assert build.library() is None
        assert build.describe() == "torch"
    finally:
        monkeypatch.undo()
        build.library.cache_clear()
