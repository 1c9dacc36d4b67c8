"""Attention over packs: examples end to end in one sequence, blind to each other, no padding.

Registered with transformers under `PACKED`, so that any model that routes attention through
transformers' attention interface can use it. The lengths of the examples reach it as the keyword
`lengths` of the model's forward call.

On a CPU the flash backward of SDPA is several times slower than a few matrix products for short
examples, so these get their own backward: probabilities are recomputed from q and k, and query
heads that share a key head are folded into its rows.

Legend: H query heads, G key/value heads, R = H / G, T tokens of the pack, N tokens of one example,
D head width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tunesmith.errors import ModelError

PACKED = "tunesmith_packed"
"""Name under which transformers knows this attention."""

SHORT = 512
"""Longest example that takes the matrix-product backward on a CPU: measured on two Zen 4 cores
the flash backward wins from about 1,000 tokens on."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    lengths: tuple[int, ...],
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each example of a pack.

    Args:
        module: The attention module that calls; only named in errors.
        query: (1, H, T, D).
        key: (1, G, T, D).
        value: (1, G, T, D).
        attention_mask: Must be None: a pack has no padding.
        lengths: Tokens of each example; they add up to T.
        scaling: Factor on q k^T; None is 1/sqrt(D).
        dropout: Probability of dropping an attention weight.
        sliding_window: How many tokens back a token sees, itself included; None sees all.
        **kwargs: What the model passes besides; see Raises.

    Returns:
        (1, T, H, D) and None in place of the weights.

    Raises:
        ModelError: The model wants soft-capped logits or attention sinks, which SDPA has not.
    """
    for name in ("softcap", "s_aux"):
        if kwargs.get(name) is not None:
            raise ModelError(
                type(module).__name__,
                got=f"attention with {name}",
                expected="plain causal attention when examples are packed",
                hint="set data.packing: false",
            )
    query, key = query.to(value.dtype), key.to(value.dtype)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    own_backward = query.device.type == "cpu" and dropout == 0.0
    parts = []
    for q, k, v, n in zip(
        query.split(lengths, 2),
        key.split(lengths, 2),
        value.split(lengths, 2),
        lengths,
        strict=True,
    ):
        windowed = sliding_window is not None and n > sliding_window
        if own_backward and n <= SHORT and not windowed and torch.is_grad_enabled():
            parts.append(_ShortAttention.apply(q, k, v, scale))
        else:
            mask = _window(n, sliding_window, q.device) if windowed else None
            parts.append(_sdpa(q, k, v, scale, mask=mask, dropout=dropout))
    return torch.cat(parts, 2).transpose(1, 2), None


def _sdpa(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    return F.scaled_dot_product_attention(
        q, k, v, mask, dropout, is_causal=mask is None, scale=scale, enable_gqa=True
    )


def _window(n: int, width: int, device: torch.device) -> Tensor:
    """(N, N) bool, True where a query may see a key: not later, and fewer than `width` back."""
    back = torch.arange(n, device=device)[:, None] - torch.arange(n, device=device)[None, :]
    return (back >= 0) & (back < width)


class _ShortAttention(torch.autograd.Function):
    """SDPA forward; backward by batched matrix products.

    FlashAttention, arXiv:2205.14135, appendix B.4, without tiling.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.scale = scale
        return _sdpa(q, k, v, scale)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v = ctx.saved_tensors
        _, heads, n, width = q.shape
        groups = k.shape[1]
        repeat = heads // groups
        q_GMD = q.reshape(groups, repeat * n, width)
        d_out_GMD = d_out.reshape(groups, repeat * n, width)
        k_GND, v_GND = k[0], v[0]

        scores = torch.bmm(q_GMD, k_GND.transpose(1, 2)).view(groups, repeat, n, n).float()
        scores.mul_(ctx.scale).masked_fill_(_future(n, q.device), float("-inf"))
        p_GMN = torch.softmax(scores, -1).view(groups, repeat * n, n)
        p_low = p_GMN.to(q.dtype)

        d_v = torch.bmm(p_low.transpose(1, 2), d_out_GMD)
        d_p = torch.bmm(d_out_GMD, v_GND.transpose(1, 2)).float()
        row = (d_p * p_GMN).sum(-1, keepdim=True)
        d_scores = d_p.sub_(row).mul_(p_GMN).mul_(ctx.scale).to(q.dtype)
        d_q = torch.bmm(d_scores, k_GND).view(1, heads, n, width)
        d_k = torch.bmm(d_scores.transpose(1, 2), q_GMD)
        return d_q, d_k[None], d_v[None], None


def _future(n: int, device: torch.device) -> Tensor:
    return torch.ones(n, n, dtype=torch.bool, device=device).triu_(1)


@contextmanager
def attention(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Let `model` attend through the implementation `name` for the time of the block."""
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before


def register() -> None:
    """Make `PACKED` known to transformers; doing it twice changes nothing."""
    ALL_ATTENTION_FUNCTIONS.register(PACKED, packed_attention)
