"""Packed attention equals that of each example alone, and of each answer with its prefix."""

import pytest
import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models import attention, block_attention, ways
from tunesmith.models.kernels import attention as kernel
from tunesmith.models.kernels import build
from tunesmith.models.segments import segments

LENGTHS = (3, 1, 7, 600, 5)


def _qkv(dtype=torch.float64, lengths=LENGTHS):
    torch.manual_seed(0)
    total = sum(lengths)
    return [
        torch.randn(1, heads, total, 16, dtype=dtype, requires_grad=True) for heads in (4, 2, 2)
    ]


def _alone(q, k, v, lengths, mask=None):
    """Plain softmax attention, example by example, key heads repeated."""
    parts = []
    for a, b, c in zip(q.split(lengths, 2), k.split(lengths, 2), v.split(lengths, 2), strict=True):
        n = a.shape[2]
        scores = a @ b.repeat_interleave(2, 1).transpose(-1, -2) * 0.25
        seen = torch.ones(n, n, dtype=torch.bool).tril() if mask is None else mask(n)
        scores = scores.masked_fill(~seen, float("-inf"))
        parts.append(torch.softmax(scores, -1) @ c.repeat_interleave(2, 1))
    return torch.cat(parts, 2).transpose(1, 2)


def test_forward_and_backward_equal_plain_softmax_attention():
    q, k, v = _qkv()
    out, weights = attention.packed_attention(
        nn.Identity(), q, k, v, None, lengths=LENGTHS, scaling=0.25
    )
    expected = _alone(q, k, v, LENGTHS)
    assert weights is None
    # Scores are softmaxed in fp32 whatever comes in, so double precision agrees to fp32.
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    upstream = torch.randn_like(out)
    got = torch.autograd.grad(out, (q, k, v), upstream)
    want = torch.autograd.grad(expected, (q, k, v), upstream)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_another_example_in_the_pack_changes_nothing():
    q, k, v = _qkv(torch.float32, (9, 4))
    first, _ = attention.packed_attention(nn.Identity(), q, k, v, None, lengths=(9, 4))
    changed = [x.detach().clone() for x in (q, k, v)]
    for x in changed:
        x[:, :, :9] += 1.0
    second, _ = attention.packed_attention(nn.Identity(), *changed, None, lengths=(9, 4))
    assert torch.equal(first[:, 9:], second[:, 9:])
    assert not torch.equal(first[:, :9], second[:, :9])


def test_sliding_window_limits_what_a_token_sees():
    q, k, v = _qkv(torch.float32, (8, 3))

    def seen(n):
        back = torch.arange(n)[:, None] - torch.arange(n)[None, :]
        return (back >= 0) & (back < 3)

    out, _ = attention.packed_attention(
        nn.Identity(), q, k, v, None, lengths=(8, 3), scaling=0.25, sliding_window=3
    )
    torch.testing.assert_close(out, _alone(q, k, v, (8, 3), seen), rtol=1e-4, atol=1e-5)


def test_soft_capped_attention_is_refused_with_a_hint():
    q, k, v = _qkv(torch.float32, (4,))
    with pytest.raises(ModelError, match=r"softcap.*\nhint: set data.packing: false"):
        attention.packed_attention(nn.Identity(), q, k, v, None, lengths=(4,), softcap=50.0)


SHARED = (4, 300, 5, 290, 1, 6, 40, 3, 7)
"""Tokens of segments; both prefixes and answers reach beyond a block of queries."""
PREFIXES = (None, None, 1, 1, 1, None, None, 6, 6)


def _by_definition(q, k, v, lengths, prefixes, window):
    """Plain softmax over the whole pack, masked by who may see whom, position by position."""
    segment = [number for number, length in enumerate(lengths) for _ in range(length)]
    before = [0 if p is None else lengths[p] for p in prefixes]
    position = [before[number] + i for number, n in enumerate(lengths) for i in range(n)]
    mine, at = torch.tensor(segment), torch.tensor(position)
    continues = torch.tensor([-1 if p is None else p for p in prefixes])[mine]
    back = at[:, None] - at[None, :]
    seen = (mine[:, None] == mine[None, :]) | (continues[:, None] == mine[None, :])
    seen &= (back >= 0) & (back < (window or len(segment)))
    scores = q @ k.repeat_interleave(2, 1).transpose(-1, -2) * 0.25
    weights = torch.softmax(scores.masked_fill(~seen, float("-inf")), -1)
    return (weights @ v.repeat_interleave(2, 1)).transpose(1, 2)


@pytest.mark.parametrize("window", [None, 3, 8, 280, 400])
@pytest.mark.parametrize("path", ["blocks", "sdpa"])
def test_answers_see_their_prefix_and_not_each_other(path, window):
    q, k, v = _qkv(lengths=SHARED)
    if path == "blocks":
        out, _ = attention.packed_attention(
            nn.Identity(),
            *(q, k, v, None),
            lengths=SHARED,
            prefixes=PREFIXES,
            scaling=0.25,
            sliding_window=window,
        )
    else:
        heads_last = [x[0].transpose(0, 1) for x in (q, k, v)]
        out = ways.by_segments(*heads_last, segments(SHARED, PREFIXES), 0.25, window)[None]
    expected = _by_definition(q, k, v, SHARED, PREFIXES, window)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    upstream = torch.randn_like(out)
    got = torch.autograd.grad(out, (q, k, v), upstream)
    want = torch.autograd.grad(expected, (q, k, v), upstream)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_gradients_of_a_prefix_add_up_in_fp32():
    """600 answers of one token in bf16: each adds about a third of 1.

    A sum in bf16 stops growing at 128, where numbers lie 1 apart.
    """
    lengths, prefixes = (2, *[1] * 600), (None, *[0] * 600)
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 1, 602, 8).bfloat16().requires_grad_() for _ in range(3))
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        parts = [x.to(dtype) for x in (q, k, v)]
        out, _ = attention.packed_attention(
            nn.Identity(), *parts, None, lengths=lengths, prefixes=prefixes
        )
        (found[dtype],) = torch.autograd.grad(out, parts[2], torch.ones_like(out))
    exact, rounded = found[torch.float32][:, :, :2], found[torch.bfloat16][:, :, :2].float()
    # Probabilities are off by up to 2^-9 each, and so is the sum when it is rounded at last.
    assert exact.min() > 150
    torch.testing.assert_close(rounded, exact, rtol=2**-8, atol=0)


needs_kernel = pytest.mark.skipif(
    not hasattr(build.library(), "causal_bf16"),
    reason="no C compiler, or a processor that does not multiply pairs of bf16",
)


def _pack(lengths, groups=3, each=3, width=64, dtype=torch.bfloat16):
    torch.manual_seed(0)
    total = sum(lengths)
    shapes = ((groups, total, each, width), (groups, total, width), (groups, total, width))
    return [torch.randn(*shape, dtype=dtype, requires_grad=True) for shape in shapes]


def _answer_and_gradients(inputs, lengths, window=None):
    out = block_attention.attend(*inputs, segments(lengths), 0.125, window)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return out.detach(), *torch.autograd.grad(out, inputs, upstream)


def _by_products(monkeypatch):
    monkeypatch.setattr(kernel, "serves", lambda *_: False)


@needs_kernel
@pytest.mark.parametrize("lengths", [(1,), (2, 1, 33), (90, 17, 210, 64), (700, 5)])
@pytest.mark.parametrize(("groups", "each", "width"), [(3, 3, 64), (2, 1, 16), (2, 4, 128)])
def test_kernel_is_nearer_to_fp32_than_products_are(lengths, groups, each, width, monkeypatch):
    inputs = _pack(lengths, groups, each, width)
    exact = _answer_and_gradients([x.detach().float().requires_grad_() for x in inputs], lengths)
    got = _answer_and_gradients(inputs, lengths)
    _by_products(monkeypatch)
    products = _answer_and_gradients(inputs, lengths)
    for answer, other, reference in zip(got, products, exact, strict=True):
        distance = (answer.float() - reference).norm()
        # Of a single token the gradients of q and k are 0 but for rounding.
        assert distance <= 1.05 * (other.float() - reference).norm() + 1e-2 * (max(lengths) == 1)


@needs_kernel
def test_kernel_gives_the_same_bits_every_time_and_in_any_company():
    lengths = (40, 300, 7)
    inputs = _pack(lengths)
    first = _answer_and_gradients(inputs, lengths)
    again = _answer_and_gradients(inputs, lengths)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    alone = [x.detach()[:, 40:340].contiguous() for x in inputs]
    out = block_attention.attend(*alone, segments((300,)), 0.125)
    assert torch.equal(out, first[0][40:340])


@needs_kernel
def test_kernel_passes_on_what_is_not_finite():
    inputs = _pack((20, 30))
    with torch.no_grad():
        inputs[1][0, 25, 3] = float("nan")
    out = block_attention.attend(*inputs, segments((20, 30)), 0.125)
    assert out[:20].isfinite().all()
    assert out[25:, :192].isnan().any(1).all()


@needs_kernel
@pytest.mark.parametrize("window", [4, 50])
def test_a_window_that_matters_takes_the_products(window, monkeypatch):
    lengths = (20, 30)
    inputs = _pack(lengths)
    got = _answer_and_gradients(inputs, lengths, window)
    _by_products(monkeypatch)
    expected = _answer_and_gradients(inputs, lengths, window)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0.1, atol=0.05)
