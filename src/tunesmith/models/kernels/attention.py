"""Causal attention within the examples of a pack, as one C call forward and one backward.

Legend: G key heads, R query heads per key head, T tokens of the pack, D head width.
"""

from typing import Any

import torch
from torch import Tensor

from tunesmith.models.kernels import build
from tunesmith.models.kernels.memory import empty, empty_like


def serves(q_GTRD: Tensor, num_examples: int) -> bool:
    """Whether the kernel is here, for queries like these, and has work for every thread."""
    groups, _, _, width = q_GTRD.shape
    return (
        q_GTRD.dtype is torch.bfloat16
        and build.serves(q_GTRD)
        and hasattr(build.library(), "causal_bf16")
        and width % 16 == 0
        and num_examples * groups >= torch.get_num_threads()
    )


def causal(
    q_GTRD: Tensor, k_GTD: Tensor, v_GTD: Tensor, bounds: tuple[int, ...], scale: float
) -> Tensor:
    """Each example attends to itself, causally.

    Args:
        q_GTRD: (G, T, R, D) bf16 queries.
        k_GTD: (G, T, D) bf16 keys.
        v_GTD: (G, T, D) bf16 values.
        bounds: Where each example begins, and T.
        scale: Factor on q k^T.

    Returns:
        (T, G R D) bf16: the heads of a token side by side.
    """
    return _Causal.apply(q_GTRD, k_GTD, v_GTD, bounds, scale)


class _Causal(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bounds: tuple[int, ...], scale: float
    ) -> Tensor:
        groups, tokens, each, width = q.shape
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        out = empty((tokens, groups * each * width), q.dtype)
        lse = empty((groups, tokens, each), torch.float32)
        ctx.starts, ctx.sizes = torch.tensor(bounds), _sizes(q, bounds, scale)
        build.call("causal", q.dtype, q, k, v, ctx.starts, out, lse, *ctx.sizes)
        ctx.save_for_backward(q, k, v, lse)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, lse = ctx.saved_tensors
        d_out = d_out.contiguous()
        d_q, d_k, d_v = empty_like(q), empty_like(k), empty_like(v)
        tensors = (q, k, v, ctx.starts, lse, d_out, d_q, d_k, d_v)
        build.call("causal_backward", q.dtype, *tensors, *ctx.sizes)
        return d_q, d_k, d_v, None, None


def _sizes(q_GTRD: Tensor, bounds: tuple[int, ...], scale: float) -> tuple[int | float, ...]:
    """What both calls are told, in the order of the C function."""
    groups, tokens, each, width = q_GTRD.shape
    examples = len(bounds) - 1
    longest = max(bounds[i + 1] - bounds[i] for i in range(examples))
    return examples, longest, tokens, groups, each, width, float(scale)
