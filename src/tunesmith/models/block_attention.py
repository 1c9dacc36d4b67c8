"""Causal attention over a pack on a CPU: a few matrix products per block of queries.

SDPA's flash attention for CPUs is several times slower than matrix products on short examples,
backward most of all, and no faster in bf16 than in fp32. Here each block of at most BLOCK queries
of one example is multiplied with the keys that it may see, so work above the diagonal is skipped;
query heads that share a key head are rows of the same product. Probabilities are kept for the
backward pass where they are small, and made again where they are not.

FlashAttention, arXiv:2205.14135, appendix B.4, without tiling over keys.

Legend: G key heads, R query heads per key head, T tokens of the pack, D head width; M = queries of
a block times R, N keys that a block may see.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunesmith.models.kernels.softmax import attend_, attend_backward_

BLOCK = 256
"""Queries of one block."""

KEEP = 256
"""Longest example whose probabilities are kept for the backward pass: 18 bytes per key, head and
layer of a token would soon be more than everything else that is kept."""


def attend(
    q_GTRD: Tensor,
    k_GTD: Tensor,
    v_GTD: Tensor,
    lengths: tuple[int, ...],
    scale: float,
    window: int | None = None,
) -> Tensor:
    """Causal attention within each example of a pack.

    Args:
        q_GTRD: (G, T, R, D) queries.
        k_GTD: (G, T, D) keys.
        v_GTD: (G, T, D) values.
        lengths: Tokens of each example; they add up to T.
        scale: Factor on q k^T.
        window: How many keys back a query sees, itself included; None sees all.

    Returns:
        (T, G R D): the heads of a token side by side.
    """
    return _Attend.apply(q_GTRD, k_GTD, v_GTD, lengths, scale, window)


@dataclass(frozen=True, slots=True)
class _Block:
    """Queries from `start` to `stop` of the pack, and the keys from `low` to `stop`."""

    start: int
    stop: int
    low: int
    length: int
    window: int

    @property
    def sight(self) -> tuple[int, int]:
        """What the softmax needs to know: the first query in keys, and the window."""
        return self.start - self.low, self.window


def _blocks(lengths: tuple[int, ...], window: int | None) -> Iterator[_Block]:
    begin = 0
    for length in lengths:
        sees = length if window is None else min(window, length)
        for at in range(0, length, BLOCK):
            start, stop = begin + at, begin + min(at + BLOCK, length)
            yield _Block(start, stop, max(begin, start - sees + 1), length, sees)
        begin += length


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        lengths: tuple[int, ...],
        scale: float,
        window: int | None,
    ) -> Tensor:
        out_GTRD = torch.empty_like(q)
        kept: list[Tensor] = []
        wanted = any(ctx.needs_input_grad)
        for block in _blocks(lengths, window):
            p_GMN = _probabilities(q, k, block, scale)
            o_GMD = torch.bmm(p_GMN, v[:, block.low : block.stop])
            _rows(out_GTRD, block).copy_(o_GMD)
            if wanted and block.length <= KEEP:
                kept.append(p_GMN)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.lengths, ctx.scale, ctx.window = lengths, scale, window
        return out_GTRD.transpose(0, 1).reshape(q.shape[1], -1)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        groups, tokens, each, width = q.shape
        d_out_GTRD = d_out.view(tokens, groups, each, width).transpose(0, 1).contiguous()
        d_q, d_k, d_v = torch.empty_like(q), _sum_like(k, ctx), _sum_like(v, ctx)
        kept.reverse()
        for block in _blocks(ctx.lengths, ctx.window):
            keys = slice(block.low, block.stop)
            q_GMD, d_o_GMD = _rows(q, block), _rows(d_out_GTRD, block)
            short = block.length <= KEEP
            p_GMN = kept.pop() if short else _probabilities(q, k, block, ctx.scale)
            d_p_GMN = torch.bmm(d_o_GMD, v[:, keys].transpose(1, 2))
            first, sees = block.sight
            d_s_GMN = attend_backward_(p_GMN, d_p_GMN, first, each, sees, ctx.scale)
            _rows(d_q, block).copy_(torch.bmm(d_s_GMN, k[:, keys]))
            d_k[:, keys] += torch.bmm(d_s_GMN.transpose(1, 2), q_GMD)
            d_v[:, keys] += torch.bmm(p_GMN.transpose(1, 2), d_o_GMD)
        return d_q, d_k.to(k.dtype), d_v.to(v.dtype), None, None, None


def _probabilities(q: Tensor, k: Tensor, block: _Block, scale: float) -> Tensor:
    """(G, M, N) what each query of a block takes from each key."""
    scores_GMN = torch.bmm(_rows(q, block), k[:, block.low : block.stop].transpose(1, 2))
    first, sees = block.sight
    return attend_(scores_GMN, first, q.shape[2], sees, scale)


def _rows(x_GTRD: Tensor, block: _Block) -> Tensor:
    """(G, M, D) view of the rows of a block."""
    groups, _, _, width = x_GTRD.shape
    return x_GTRD[:, block.start : block.stop].view(groups, -1, width)


def _sum_like(x: Tensor, ctx: Any) -> Tensor:
    """Zeros to add up in: fp32 where several blocks of an example add to the same key."""
    several = max(ctx.lengths) > BLOCK and x.dtype is torch.bfloat16
    return torch.zeros_like(x, dtype=torch.float32 if several else None)
