"""Products with a frozen matrix laid out beforehand, and a product of low rank in the same sums.

oneDNN lays a matrix out anew in each call, which takes a tenth to a quarter of a product of some
hundred rows, and compiles code for each number of rows that it has not met, which ragged batches
bring all the time. This needs neither.

Legend: M rows, K numbers that are summed over, N columns, R ranks.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from tunesmith.models.kernels import build
from tunesmith.models.kernels.memory import empty
from tunesmith.models.kernels.panels import Blocks, ranges

VECTOR = 16
"""Columns that are summed at once."""
WIDE = 4
"""Vectors of a panel, where there are columns enough; else one."""


@dataclass(frozen=True, slots=True)
class Laid:
    """A matrix (K, N) laid out for `product`.

    Attributes:
        panels: (panels, K / 2, columns of a panel) int32, pairs of bf16; see product.c.
        columns: N.
        vectors: 16 columns each, of a panel: 1 or 4.
        ranges: (panels, 2) int64, the pairs of K of each panel that are not zero.
    """

    panels: Tensor
    columns: int
    vectors: int
    ranges: Tensor


@cache
def available() -> bool:
    """Whether the kernel is here and the best there is: tiles of Intel's AMX are faster still."""
    return hasattr(build.library(), "product_bf16") and not build.has_tiles("bf16")


def can_lay(b_KN: Tensor) -> bool:
    """Whether a matrix can be laid out: bf16 on the CPU, with whole pairs to sum over."""
    return (
        available()
        and b_KN.dtype is torch.bfloat16
        and b_KN.device.type == "cpu"
        and b_KN.shape[0] % 2 == 0
        and b_KN.numel() > 0
    )


def lay(b_KN: Tensor, blocks: Blocks = (), narrow: bool = False) -> Laid:
    """Lay out a matrix that `can_lay`.

    Args:
        b_KN: (K, N) bf16 with any strides.
        blocks: All that is not zero.
        narrow: Whether N is a few dozen, so that panels are narrow; not for what is added.
    """
    inner, columns = b_KN.shape
    vectors = 1 if narrow else WIDE
    num_panels = -(-columns // (vectors * VECTOR))
    panels = torch.empty(num_panels, inner // 2, vectors * VECTOR, dtype=torch.int32)
    build.call("lay", b_KN.dtype, b_KN, panels, inner, columns, *b_KN.stride(), vectors)
    return Laid(panels, columns, vectors, ranges(inner, num_panels, vectors * VECTOR, blocks, 2))


def product(
    x_MK: Tensor,
    b: Laid,
    bias_N: Tensor | None = None,
    thin: tuple[Tensor, Laid] | None = None,
    out_MN: Tensor | None = None,
) -> Tensor:
    """X B + bias + T C, (M, N) bf16; sums in fp32, rounded once.

    Args:
        x_MK: (M, K) bf16.
        b: Of (K, N).
        bias_N: (N,) bf16.
        thin: T (M, R) bf16, and C of (R, N).
        out_MN: Contiguous memory for the result; new where it is None.
    """
    y_MN = empty((len(x_MK), b.columns), x_MK.dtype) if out_MN is None else out_MN
    t_MR, c = (None, None) if thin is None else (thin[0].contiguous(), thin[1])
    tensors = (x_MK.contiguous(), b.panels, b.ranges, bias_N, t_MR, c and c.panels, c and c.ranges)
    rank = 0 if t_MR is None else t_MR.shape[1]
    build.call("product", x_MK.dtype, *tensors, y_MN, *x_MK.shape, rank, b.columns, b.vectors)
    return y_MN


def outer(t_MR: Tensor, x_MN: Tensor, blocks: Blocks = ()) -> Tensor:
    """T^T X, (R, N) float32, of few ranks: a sum over rows.

    Args:
        t_MR: (M, R) bf16.
        x_MN: (M, N) bf16.
        blocks: Ranks and columns that are wanted, no column twice; the rest of the result means
            nothing.
    """
    (rows, ranks), columns = t_MR.shape, x_MN.shape[1]
    pieces = [
        (first, wanted.start, wanted.stop)
        for some, wanted in blocks or [(slice(0, ranks), slice(0, columns))]
        for first in range(some.start, some.stop, VECTOR)
    ]
    y_RN = x_MN.new_empty(ranks, columns, dtype=torch.float32)
    room = torch.empty(len(pieces) * -(-rows // 2) * VECTOR, dtype=torch.int32)
    lists = [torch.tensor(numbers) for numbers in zip(*pieces, strict=True)]
    tensors = (t_MR.contiguous(), x_MN.contiguous(), y_RN, room, *lists)
    build.call("outer", x_MN.dtype, *tensors, len(pieces), rows, ranks, columns)
    return y_RN
