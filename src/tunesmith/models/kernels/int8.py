"""Rounding rows to int8, products of them, and making wide what these give.

Legend: M rows, K and N columns.
"""

from functools import cache
from time import perf_counter

import torch
from torch import Tensor

from tunesmith.models.kernels import build

LARGEST = 127
"""Of a whole number; -128 is left out, so that a number and its negative round alike."""
_TINY = torch.finfo(torch.float32).tiny * LARGEST
"""Least that a row is divided by, so that the quotient is finite and a row of zeros stays one."""

MOST_TERMS = 2**24 // LARGEST**2
"""Products of two whole numbers that fp32 adds up without rounding, whatever they are."""
FEW_ROWS = 32
"""Below it `torch._int_mm` is the faster one everywhere: making the weight wide costs more."""


def quantize_rows(x_MK: Tensor, factor_K: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Round each row to whole numbers times a scale of its own, the largest becoming 127.

    Args:
        x_MK: (M, K) bf16 or fp32; columns may be a slice of a contiguous matrix.
        factor_K: (K,) float32, multiplied into each row beforehand; None for 1.

    Returns:
        (M, K) int8 and (M,) float32, the scales: their product is `x_MK` within half a scale. A
        row of zeros has scale 0. In a row that is not finite the scale is not.
    """
    if not build.serves(x_MK[:1]):
        return _plain_quantize_rows(x_MK, factor_K)
    rows, width = x_MK.shape
    values = x_MK.new_empty(rows, width, dtype=torch.int8)
    scale = x_MK.new_empty(rows, dtype=torch.float32)
    build.call(
        "quantize_rows" if factor_K is None else "quantize_rows_times",
        x_MK.dtype,
        *(x_MK, factor_K, values, scale, rows, width, x_MK.stride(0)),
    )
    return values, scale


def _plain_quantize_rows(x_MK: Tensor, factor_K: Tensor | None) -> tuple[Tensor, Tensor]:
    x_MK = x_MK if factor_K is None else x_MK * factor_K
    largest_M1 = x_MK.abs().amax(1, keepdim=True).float()
    # A tensor: a number divided by a tensor is rounded twice in torch, by way of the reciprocal.
    inverse_M1 = largest_M1.new_tensor(LARGEST) / largest_M1.clamp_min(_TINY)
    return (x_MK * inverse_M1).round_().to(torch.int8), (largest_M1 / LARGEST).squeeze(1)


def sums(a_MK: Tensor, b_KN: Tensor) -> Tensor:
    """The product of two int8 matrices, (M, N) int32, exactly.

    Processors without instructions for it, those that know AVX2 and no more, take ten times as long
    for it as in fp32 (400 x 576 x 1,536 on two cores: 360 ms and 36 ms). There it is made of fp32
    products so short that they are exact, so that the bits are the same everywhere.

    Args:
        a_MK: None of its numbers is -128.
        b_KN: The same; of any layout.
    """
    if len(a_MK) < FEW_ROWS or in_integers():
        return torch._int_mm(a_MK, b_KN)
    parts = zip(a_MK.split(MOST_TERMS, 1), b_KN.split(MOST_TERMS, 0), strict=True)
    first, *others = ((a.float() @ b.float()).int() for a, b in parts)
    for other in others:
        first += other
    return first


@cache
def in_integers() -> bool:
    """Whether this machine multiplies int8 as fast as fp32, by a measurement of some ms."""
    a_MK = torch.ones(128, 512, dtype=torch.int8)
    wide_MK = a_MK.float()

    def seconds(a: Tensor) -> float:
        start = perf_counter()
        _ = torch._int_mm(a, a.t()) if a.dtype is torch.int8 else a @ a.t()
        return perf_counter() - start

    return min(seconds(a_MK) for _ in range(4)) < 2 * min(seconds(wide_MK) for _ in range(4))


def scale_sums(
    sums_MN: Tensor,
    scale_M: Tensor,
    scale_N: Tensor | None,
    added_MN: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """A product of whole numbers, times the scales of its rows and columns, plus `added_MN`.

    Args:
        sums_MN: (M, N) int32.
        scale_M: (M,) float32.
        scale_N: (N,) float32; None for 1.
        added_MN: (M, N) float32; None for 0.
        dtype: fp32 or bf16.

    Returns:
        (M, N) in `dtype`, rounded once.
    """
    out_MN = sums_MN.new_empty(sums_MN.shape, dtype=dtype)
    if build.serves(out_MN):
        rows, width = sums_MN.shape
        build.call("scale_sums", dtype, *(sums_MN, scale_M, scale_N, added_MN, out_MN, rows, width))
        return out_MN
    wide_MN = sums_MN * scale_M[:, None]
    if scale_N is not None:
        wide_MN *= scale_N
    if added_MN is not None:
        wide_MN += added_MN
    return wide_MN.to(dtype)
