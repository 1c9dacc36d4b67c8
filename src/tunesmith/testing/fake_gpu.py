"""Stand-ins for what runs on a GPU only, made of plain torch after the documentation of each.

They let the code around them run on a CPU. Where the real one does something that a caller must
bear with (writing in place, a gradient of another shape), the stand-in does the same.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def varlen_attn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    """`torch.nn.attention.varlen.varlen_attn` of torch 2.12 and later."""
    if cu_seq_q.dtype is not torch.int32 or cu_seq_k.dtype is not torch.int32:
        raise TypeError("boundaries are int32")
    if any(x.stride(-1) != 1 for x in (query, key, value)):
        raise ValueError("the numbers of a head must lie side by side")
    if not enable_gqa and query.shape[1] != key.shape[1]:
        raise ValueError("fewer key heads than query heads, without enable_gqa")
    ends_q, ends_k = cu_seq_q.tolist(), cu_seq_k.tolist()
    if max_q != max(end - start for start, end in pairwise(ends_q)) or max_k != max_q:
        raise ValueError("the longest example is another one")
    parts = []
    for (q0, q1), (k0, k1) in zip(pairwise(ends_q), pairwise(ends_k), strict=True):
        q, k, v = (x.transpose(0, 1) for x in (query[q0:q1], key[k0:k1], value[k0:k1]))
        seen = _seen(q1 - q0, window_size)
        out = F.scaled_dot_product_attention(q, k, v, seen, scale=scale, enable_gqa=enable_gqa)
        parts.append(out.transpose(0, 1))
    return torch.cat(parts)


def _seen(n: int, window_size: tuple[int, int]) -> Tensor:
    """(n, n) bool; -1 on a side is no limit there."""
    ahead = torch.arange(n)[None, :] - torch.arange(n)[:, None]
    left, right = (n if side == -1 else side for side in window_size)
    return (ahead >= -left) & (ahead <= right)


class LigerRMSNormFunction:
    """The one of `liger_kernel.ops` 0.8.5."""

    @staticmethod
    def apply(
        x: Tensor, weight: Tensor, eps: float, offset: float, casting_mode: str, in_place: bool
    ) -> Tensor:
        """Rounded once in the mode "gemma"; the others are not played here."""
        if casting_mode != "gemma" or in_place:
            raise NotImplementedError
        wide = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps)
        return (wide * (offset + weight.float())).to(x.dtype)


class LigerFusedGateUpSiLUMulFunction(torch.autograd.Function):
    """The one of `liger_kernel.ops` 0.8.5: its gradient has two dimensions, whatever came in."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        """silu(gate) up."""
        ctx.save_for_backward(y)
        gate, up = y.chunk(2, -1)
        return F.silu(gate) * up

    @staticmethod
    def backward(ctx: Any, d_h: Tensor) -> Tensor:
        """Of gate and up, side by side."""
        (y,) = ctx.saved_tensors
        with torch.enable_grad():
            leaf = y.detach().requires_grad_()
            gate, up = leaf.chunk(2, -1)
            h = F.silu(gate) * up
        return torch.autograd.grad(h, leaf, d_h)[0].view(-1, y.shape[-1])


class LigerGELUMulFunction:
    """The one of `liger_kernel.ops` 0.8.5."""

    @staticmethod
    def apply(gate: Tensor, up: Tensor) -> Tensor:
        """gelu(gate) up, GELU in its tanh form."""
        return F.gelu(gate, approximate="tanh") * up


class LigerRopeFunction(torch.autograd.Function):
    """The one of `liger_kernel.ops` 0.8.5: turns in place what is contiguous with tokens first."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Q (1, H, T, D) and k (1, G, T, D), turned."""
        ctx.save_for_backward(cos, sin)
        return _turn_(q, cos, sin), _turn_(k, cos, sin)

    @staticmethod
    def backward(ctx: Any, d_q: Tensor, d_k: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Turned back."""
        cos, sin = ctx.saved_tensors
        return _turn_(d_q, cos, -sin), _turn_(d_k, cos, -sin), None, None


def _turn_(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    own = x.transpose(1, 2).contiguous()
    first, second = own.float().chunk(2, -1)
    turned = torch.cat([-second, first], -1)
    # A Triton kernel writes where autograd does not notice.
    own.data.copy_(own.float() * cos[None, :, None] + turned * sin[None, :, None])
    return own.transpose(1, 2)
