"""Products with a frozen int8 matrix, and a product of low rank in the same sums.

`torch._int_mm` gives its sums to memory, to be made wide by another pass, and is slower than fp32
where there are no products of bytes. Here processors that know AVX2 alone multiply 16-bit numbers,
twice as many at a time as fp32 (`lanes.h`); the sums are exact, and so the same, everywhere.

Legend: M rows, K numbers that are summed over, N columns, R ranks, S segments of K.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from tunesmith.models.kernels import build
from tunesmith.models.kernels.memory import empty
from tunesmith.models.kernels.panels import Blocks, ranges

TASKS = 4
"""For each thread, so that they share themselves out evenly."""
ROWS = 96
"""Least rows of a task: laying out its panel takes as long as a few rows."""


@dataclass(frozen=True, slots=True)
class LaidThin:
    """A float32 matrix (R, N) laid out to be added by `product`.

    Attributes:
        panels: (panels, R, columns of a panel) float32.
        ranges: (panels, 2) int64, the ranks of each panel that are not zero.
    """

    panels: Tensor
    ranges: Tensor


@cache
def available() -> bool:
    """Whether the kernel is here, the best there is, and sums as it should."""
    if not hasattr(build.library(), "whole_product_float") or build.has_tiles("int8"):
        return False
    x_MK = torch.tensor([[127.0, -127.0] * 4])
    b_KN = torch.tensor([[127], [-127]] * 4, dtype=torch.int8)
    return product(x_MK, b_KN, (slice(0, 8),)).item() == 8 * 127**2


def serves(b_KN: Tensor, segments: Sequence[slice]) -> bool:
    """Whether `product` takes a matrix: int8 on the CPU, with segments of whole groups."""
    return (
        b_KN.dtype is torch.int8
        and b_KN.device.type == "cpu"
        and b_KN.numel() > 0
        and 1 in b_KN.stride()
        and available()
        and all(segment.stop % _group() == 0 for segment in segments)
    )


def lay_thin(matrix_RN: Tensor, blocks: Blocks = ()) -> LaidThin:
    """Lay out a matrix of few rows.

    Args:
        matrix_RN: (R, N) bf16 or fp32 with any strides.
        blocks: All that is not zero.
    """
    (ranks, columns), width = matrix_RN.shape, _width()
    num_panels = -(-columns // width)
    padded = pad(matrix_RN.float(), (0, num_panels * width - columns))
    panels = padded.view(ranks, num_panels, width).transpose(0, 1).contiguous()
    return LaidThin(panels, ranges(ranks, num_panels, width, blocks, 1))


def product(
    x_MK: Tensor,
    b_KN: Tensor,
    segments: Sequence[slice],
    factor_K: Tensor | None = None,
    scale_N: Tensor | None = None,
    bias_N: Tensor | None = None,
    thin: tuple[Tensor, LaidThin] | None = None,
) -> Tensor:
    """(X factor) B scale + bias + T C, (M, N) in the type of X, from X rounded to int8.

    Args:
        x_MK: (M, K) bf16 or fp32.
        b_KN: (K, N) int8 that `serves`, none of its numbers -128.
        segments: Of K, one after the other: in each, a row of X is rounded with a scale of its own.
        factor_K: (K,) float32, multiplied into X before it is rounded; None for 1.
        scale_N: (N,) float32; None for 1.
        bias_N: (N,) in the type of X; None for 0.
        thin: T (M, R) bf16 or fp32, and C of (R, N).
    """
    (rows, inner), columns, group = x_MK.shape, b_KN.shape[1], _group()
    ends, groups = torch.tensor([segment.stop // group for segment in segments]), inner // group
    codes_MK = empty((rows, inner), torch.uint8 if group == 4 else torch.int16)
    scale_SM = torch.empty(len(segments), rows)
    name = "code_rows" if factor_K is None else "code_rows_times"
    tensors = (x_MK.contiguous(), factor_K, ends, codes_MK, scale_SM)
    build.call(name, x_MK.dtype, *tensors, rows, groups, len(segments))

    t_MR, c = (None, None) if thin is None else (thin[0].float().contiguous(), thin[1])
    y_MN, ranks = empty((rows, columns), x_MK.dtype), 0 if t_MR is None else t_MR.shape[1]
    added = (scale_N, bias_N, t_MR, c and c.panels, c and c.ranges)
    sizes = (rows, groups, len(segments), ranks, columns, *b_KN.stride())
    tensors = (codes_MK, scale_SM, ends, b_KN, *added, y_MN)
    build.call("whole_product", x_MK.dtype, *tensors, *sizes, _rows_of_a_task(rows, columns))
    return y_MN


def _rows_of_a_task(rows: int, columns: int) -> int:
    """As many as leave each thread a few tasks."""
    num_panels = -(-columns // _width())
    parts = -(-TASKS * torch.get_num_threads() // num_panels)
    return max(ROWS, -(-rows // parts))


def _group() -> int:
    """Numbers of a column that are multiplied by one operation."""
    return build.library().whole_group()


def _width() -> int:
    """Columns of a panel."""
    return build.library().whole_width()
