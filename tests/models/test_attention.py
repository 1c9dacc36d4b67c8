"""Packed attention equals the attention of each example alone."""

import pytest
import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models import attention

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
