"""Rotary positions (arXiv:2104.09864, eq. 34) and the layout of attention, in one pass.

Legend: T tokens of the pack, H query heads, G key heads, R = H / G, D head width.
"""

from typing import Any

import torch
from torch import Tensor

from tunesmith.models.kernels import build, liger
from tunesmith.models.kernels.memory import empty


def rotary_split(
    qkv_TC: Tensor, cos_TD: Tensor, sin_TD: Tensor, heads: int, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values for attention; queries and keys turned by their positions.

    Args:
        qkv_TC: (T, (H + 2G) D), fp32 or bf16: all query heads, all key heads, all value heads.
        cos_TD: (T, D) float32; both halves of the width are the same.
        sin_TD: (T, D) float32, likewise.
        heads: H.
        groups: G.

    Returns:
        q (G, T, R, D), k (G, T, D), v (G, T, D), contiguous.
    """
    return _Split.apply(qkv_TC, cos_TD, sin_TD, heads, groups)


def turned(q_THD: Tensor, k_TGD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys turned by their positions, in the layout they come in.

    Args:
        q_THD: (T, H, D), fp32 or bf16; not to be read afterwards, it may be overwritten.
        k_TGD: (T, G, D), likewise.
        cos_TD: (T, D) float32; both halves of the width are the same.
        sin_TD: (T, D) float32, likewise.

    Returns:
        (T, H, D) and (T, G, D).
    """
    if liger.serves(q_THD, k_TGD):
        return liger.turned(q_THD, k_TGD, cos_TD, sin_TD)
    return _turn(q_THD, cos_TD, sin_TD), _turn(k_TGD, cos_TD, sin_TD)


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, groups: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        tokens, width = cos.shape
        if not build.serves(qkv, cos, sin):
            return _plain_split(qkv, cos, sin, heads, groups)
        q = empty((groups, tokens, heads // groups, width), qkv.dtype)
        k, v = (empty((groups, tokens, width), qkv.dtype) for _ in range(2))
        sizes = (tokens, heads, groups, width)
        build.call("rotary_split", qkv.dtype, qkv, cos, sin, q, k, v, *sizes)
        return q, k, v

    @staticmethod
    def backward(
        ctx: Any, d_q: Tensor, d_k: Tensor, d_v: Tensor
    ) -> tuple[Tensor, None, None, None, None]:
        cos, sin = ctx.saved_tensors
        d_q, d_k, d_v = d_q.contiguous(), d_k.contiguous(), d_v.contiguous()
        return _join(d_q, d_k, d_v, cos, sin), None, None, None, None


def _join(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The way back: turned by the opposite angle, and side by side again, (T, (H + 2G) D)."""
    groups, tokens, each, width = q.shape
    heads = groups * each
    if build.serves(q, k, v, cos, sin):
        qkv = empty((tokens, (heads + 2 * groups) * width), q.dtype)
        sizes = (tokens, heads, groups, width)
        build.call("rotary_join", q.dtype, q, k, v, cos, sin, qkv, *sizes)
        return qkv
    q_THD = q.transpose(0, 1).reshape(tokens, heads, width)
    parts = [_turn(q_THD, cos, -sin), _turn(k.transpose(0, 1), cos, -sin), v.transpose(0, 1)]
    return torch.cat([part.reshape(tokens, -1) for part in parts], 1)


def _plain_split(
    qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    tokens, width = cos.shape
    q, k, v = qkv.view(tokens, -1, width).split([heads, groups, groups], 1)
    q_GTRD = _turn(q, cos, sin).view(tokens, groups, -1, width).transpose(0, 1)
    k_GTD = _turn(k, cos, sin).transpose(0, 1)
    return q_GTRD.contiguous(), k_GTD.contiguous(), v.transpose(0, 1).contiguous()


def _turn(x_THD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    wide = x_THD.float()
    first, second = wide.chunk(2, -1)
    turned = torch.cat([-second, first], -1)
    return (wide * cos_TD[:, None] + turned * sin_TD[:, None]).to(x_THD.dtype)
