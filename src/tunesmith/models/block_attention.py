"""Causal attention over a pack on a CPU: a few matrix products per block of queries.

SDPA's flash attention for CPUs is several times slower than matrix products on short examples,
backward most of all, and no faster in bf16 than in fp32. Here each block of at most BLOCK queries
of one segment is multiplied with the keys that it may see, so work above the diagonal is skipped;
query heads that share a key head are rows of the same product. Behind a shared prefix the keys are
those of the prefix and its own, side by side; the prefix's gradients add up. Probabilities are made
again in the backward pass: on rows of Alpaca in fp32 they were a fifth of all that was kept, and
steps that kept them took as long.

Plain packs in bf16 take one C call instead where the processor multiplies pairs of bf16
(`kernels.attention`): measured on two Zen 5 cores, 1.8 times as fast on rows of Alpaca, 4 times on
rows of 40 tokens, 1.2 to 1.6 times on 1,000 and 2,048.

FlashAttention, arXiv:2205.14135, appendix B.4, without tiling over keys.

Legend: G key heads, R query heads per key head, T tokens of the pack, D head width; M = queries of
a block times R, N keys that a block may see.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunesmith.models.kernels import attention as kernel
from tunesmith.models.kernels.softmax import attend_, attend_backward_
from tunesmith.models.segments import Segment

BLOCK = 128
"""Queries of one block. Of 64, 128, 256 and 512 it was the fastest for examples of 90 to 2,048
tokens on two Zen 5 cores; smaller products are slower, larger ones compute more above the
diagonal."""


def attend(
    q_GTRD: Tensor,
    k_GTD: Tensor,
    v_GTD: Tensor,
    parts: tuple[Segment, ...],
    scale: float,
    window: int | None = None,
) -> Tensor:
    """Causal attention within each segment of a pack, and to the prefix that it continues.

    Args:
        q_GTRD: (G, T, R, D) queries.
        k_GTD: (G, T, D) keys.
        v_GTD: (G, T, D) values.
        parts: The segments, in order; they cover all T tokens.
        scale: Factor on q k^T.
        window: How many keys back a query sees, itself included; None sees all.

    Returns:
        (T, G R D): the heads of a token side by side.
    """
    longest = max(part.num_own for part in parts)
    plain = not any(part.num_shared for part in parts) and (window is None or window >= longest)
    if plain and kernel.serves(q_GTRD, len(parts)):
        bounds = (*(part.start for part in parts), parts[-1].stop)
        return kernel.causal(q_GTRD, k_GTD, v_GTD, bounds, scale)
    return _Attend.apply(q_GTRD, k_GTD, v_GTD, parts, scale, window)


@dataclass(frozen=True, slots=True)
class _Block:
    """Queries from `start` to `stop` of the pack, and the keys that they see.

    Attributes:
        start: First query.
        stop: Behind the last query, and the last key.
        low: First key of the segment's own.
        shared: Keys of the prefix before these; None where there are none.
        first: Keys before the first query.
        window: How many keys a query sees at most.
    """

    start: int
    stop: int
    low: int
    shared: slice | None
    first: int
    window: int


def _blocks(parts: tuple[Segment, ...], window: int | None) -> Iterator[_Block]:
    for part in parts:
        length = part.num_shared + part.num_own
        sees = length if window is None else min(window, length)
        for start in range(part.start, part.stop, BLOCK):
            reach = start - sees + 1  # The first key seen, if the prefix lay right before.
            low, beyond = max(part.start, reach), max(0, part.start - reach)
            begin = max(part.shared, part.end - beyond)
            shared = slice(begin, part.end) if begin < part.end else None
            first = start - low + part.end - begin
            stop = min(start + BLOCK, part.stop)
            yield _Block(start, stop, low, shared, first, sees)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        parts: tuple[Segment, ...],
        scale: float,
        window: int | None,
    ) -> Tensor:
        out_GTRD = torch.empty_like(q)
        for block in _blocks(parts, window):
            p_GMN = _probabilities(q, k, block, scale)
            _rows(out_GTRD, block).copy_(torch.bmm(p_GMN, _seen(v, block)))
        ctx.save_for_backward(q, k, v)
        ctx.parts, ctx.scale, ctx.window = parts, scale, window
        return out_GTRD.transpose(0, 1).reshape(q.shape[1], -1)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        groups, tokens, each, width = q.shape
        d_out_GTRD = d_out.view(tokens, groups, each, width).transpose(0, 1).contiguous()
        d_q, d_k, d_v = torch.empty_like(q), _sum_like(k, ctx.parts), _sum_like(v, ctx.parts)
        for block in _blocks(ctx.parts, ctx.window):
            q_GMD, d_o_GMD = _rows(q, block), _rows(d_out_GTRD, block)
            p_GMN = _probabilities(q, k, block, ctx.scale)
            d_p_GMN = torch.bmm(d_o_GMD, _seen(v, block).transpose(1, 2))
            sight = (block.first, each, block.window, ctx.scale)
            d_s_GMN = attend_backward_(p_GMN, d_p_GMN, *sight)
            _rows(d_q, block).copy_(torch.bmm(d_s_GMN, _seen(k, block)))
            _add(d_k, block, torch.bmm(d_s_GMN.transpose(1, 2), q_GMD))
            _add(d_v, block, torch.bmm(p_GMN.transpose(1, 2), d_o_GMD))
        return d_q, d_k.to(k.dtype), d_v.to(v.dtype), None, None, None


def _probabilities(q: Tensor, k: Tensor, block: _Block, scale: float) -> Tensor:
    """(G, M, N) what each query of a block takes from each key."""
    scores_GMN = torch.bmm(_rows(q, block), _seen(k, block).transpose(1, 2))
    return attend_(scores_GMN, block.first, q.shape[2], block.window, scale)


def _rows(x_GTRD: Tensor, block: _Block) -> Tensor:
    """(G, M, D) view of the rows of a block."""
    groups, _, _, width = x_GTRD.shape
    return x_GTRD[:, block.start : block.stop].view(groups, -1, width)


def _seen(x_GTD: Tensor, block: _Block) -> Tensor:
    """(G, N, D) keys or values that a block sees."""
    own = x_GTD[:, block.low : block.stop]
    return own if block.shared is None else torch.cat([x_GTD[:, block.shared], own], 1)


def _add(sum_GTD: Tensor, block: _Block, d_GND: Tensor) -> None:
    """Adds the gradient of what `_seen` gave to where that came from."""
    own = block.stop - block.low
    sum_GTD[:, block.low : block.stop] += d_GND[:, -own:]
    if block.shared is not None:
        sum_GTD[:, block.shared] += d_GND[:, :-own]


def _sum_like(x: Tensor, parts: tuple[Segment, ...]) -> Tensor:
    """Zeros to add up in: fp32 where several blocks add to the same key."""
    several = any(part.num_own > BLOCK or part.num_shared for part in parts)
    wide = several and x.dtype is torch.bfloat16
    return torch.zeros_like(x, dtype=torch.float32 if wide else None)
