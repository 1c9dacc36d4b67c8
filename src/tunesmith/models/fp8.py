"""Frozen weights in FP8 (e4m3) with FP8 products in both directions, for GPUs from Hopper on.

    y   = s_x (q_x Q_W^T) s_W
    d x = s_y (q_y R_W)   t_W

Tensor cores multiply FP8 with the contraction side by side in memory on both hands, so a frozen W
is held twice, rounded beforehand: Q with one scale for each output, for y; R, transposed, with one
for each input, for d x. Both together take the bytes of one bf16 copy. x and d y are rounded at
every call, with one scale for each row.

Scales are powers of two (OCP Microscaling Formats 1.0 has the same): dividing by one changes no
digit, so both copies hold the same numbers, except that R loses what is 2^14 and more below the
largest of its row. The gradient is that of the forward pass, not of a W rounded otherwise.

Legend: M rows of input, I inputs, O outputs, K a contraction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import ScalingType

from tunesmith.models.quantized import QuantizedLinear
from tunesmith.models.weight import end_to_end

LARGEST = 448.0
"""Of e4m3 without infinities (arXiv:2209.05433, table 1)."""
E4M3 = torch.float8_e4m3fn


def quantize_rows(x_MK: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row to e4m3 numbers times a power of two of its own.

    Args:
        x_MK: (M, K), bf16 or fp32.

    Returns:
        (M, K) e4m3 and (M, 1) float32. Their product is `x_MK` within a 16th of each number, or,
        for the smallest, within 2^-10 of the scale. A row of zeros stays one; one with NaN or
        infinity gives NaN in any product.
    """
    largest_M1 = x_MK.abs().amax(1, keepdim=True).float()
    smallest = torch.finfo(torch.float32).tiny
    scale_M1 = _power_above((largest_M1 / LARGEST).clamp_min(smallest))
    values_MK = (x_MK.float() / scale_M1).clamp(-LARGEST, LARGEST)
    return values_MK.to(E4M3), scale_M1


def _power_above(x: Tensor) -> Tensor:
    """The least power of two that is not below `x`: a carry out of the digits, if there are any."""
    return ((x.view(torch.int32) + 0x007FFFFF) & 0x7F800000).view(torch.float32)


@cache
def _rounding(kind: str) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """`quantize_rows`, on a GPU as one compiled kernel: in eager mode it is six."""
    return torch.compile(quantize_rows, dynamic=True) if kind == "cuda" else quantize_rows


class Fp8Linear(QuantizedLinear):
    """A linear layer with FP8 weights and FP8 products; inputs and outputs are multiples of 16.

    Attributes:
        weight: (O, I) uint8, the bits of e4m3: as a floating type, PEFT would give it to A and B.
        scale_O1: (O, 1) float32; weight times scale is the weight that this layer stands for.
        back: (I, O) uint8, likewise, the transposed copy.
        scale_I1: (I, 1) float32, its scales.
    """

    kind = "fp8"

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        whole = Fp8Weight.of(*quantize_rows(linear.weight.detach()))
        self.weight = nn.Parameter(whole.values_OI.view(torch.uint8), requires_grad=False)
        self.register_buffer("scale_O1", whole.scale_O1)
        self.register_buffer("back", whole.values_IO.view(torch.uint8))
        self.register_buffer("scale_I1", whole.scale_I1)

    @classmethod
    def together(cls, layers: Sequence["Fp8Linear"]) -> "Fp8Weight":
        """The weights of layers that read the same input, end to end; the layers keep no copies."""
        first = layers[0]
        if len(layers) == 1:
            values_OI, values_IO = first.weight.view(E4M3), first.back.view(E4M3)
            return Fp8Weight(values_OI, first.scale_O1, values_IO, first.scale_I1)
        values_OI = end_to_end([layer.weight for layer in layers]).view(E4M3)
        whole = Fp8Weight.of(values_OI, torch.cat([layer.scale_O1 for layer in layers]))
        own = whole.values_IO.view(torch.uint8).split([layer.out_features for layer in layers], 1)
        for layer, back in zip(layers, own, strict=True):
            layer.back, layer.scale_I1 = back, whole.scale_I1
        return whole

    def weight_in(self, dtype: torch.dtype) -> Tensor:
        """(O, I) the weight that this layer multiplies by, rounded to `dtype`."""
        return (self.weight.view(E4M3).float() * self.scale_O1).to(dtype)

    @property
    def num_bytes(self) -> int:
        """Memory of both copies with their scales."""
        parts = (self.weight, self.back, self.scale_O1, self.scale_I1)
        return sum(part.nbytes for part in parts)


@dataclass(frozen=True, slots=True)
class Fp8Weight:
    """Weights of one or several layers, end to end, once for each direction.

    Attributes:
        values_OI: (O, I) e4m3.
        scale_O1: (O, 1) float32; values times scale is the matrix that this stands for.
        values_IO: (I, O) e4m3, the same matrix transposed.
        scale_I1: (I, 1) float32, its scales.
    """

    values_OI: Tensor
    scale_O1: Tensor
    values_IO: Tensor
    scale_I1: Tensor

    @classmethod
    def of(cls, values_OI: Tensor, scale_O1: Tensor) -> "Fp8Weight":
        """With the transposed copy made from the other."""
        back = (values_OI.float() * scale_O1).t().contiguous()
        return cls(values_OI, scale_O1, *quantize_rows(back))

    def times(self, x_MI: Tensor, bias_O: Tensor | None = None) -> Tensor:
        """X W^T + b, (M, O) in the type of `x_MI`, from x rounded to FP8."""
        y_MO = _product(x_MI, self.values_OI, self.scale_O1)
        return y_MO if bias_O is None else y_MO.add_(bias_O)

    def times_transposed(self, y_MO: Tensor) -> Tensor:
        """Y W, (M, I) in the type of `y_MO`, from y rounded to FP8."""
        return _product(y_MO, self.values_IO, self.scale_I1)


def _product(a_MK: Tensor, values_NK: Tensor, scale_N1: Tensor) -> Tensor:
    """A B^T, (M, N) in the type of A; A is rounded here."""
    values_MK, scale_M1 = _rounding(a_MK.device.type)(a_MK.contiguous())
    return F.scaled_mm(
        values_MK,
        # One layer's part of a transposed copy does not lie side by side; a whole one does.
        values_NK.contiguous().t(),
        scale_M1,
        ScalingType.RowWise,
        scale_N1.t(),
        ScalingType.RowWise,
        output_dtype=a_MK.dtype,
        use_fast_accum=True,
    )
