"""Int8 frozen weights with int8 activations made on the way: both products in whole numbers.

W is rounded to 8 bits with one scale for each output, once; x, and in the backward pass d y, with
one scale for each row, at every call (LLM.int8, arXiv:2208.07339, section 2.1, "vector-wise",
without its outlier columns). Then

    y   = s_x (q_x Q_W^T) s_W
    d x = s_y  q_y Q_W      with q_y, s_y of d y s_W

In the second product the sum runs over the outputs, so the scales of W cannot be taken out of it;
they are multiplied into d y before that is rounded, which is exact up to that rounding. The sums
themselves are exact: 32-bit integers, up to 133,000 terms.

Legend: M rows of input, I inputs, O outputs.
"""

import torch
from torch import Tensor, nn

from tunesmith.models.quantized import QuantizedLinear

LARGEST = 127
"""Of a whole number; -128 is left out, so that a number and its negative round alike."""


def quantize_rows(x_MK: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row to whole numbers times a scale of its own, the largest becoming 127.

    Args:
        x_MK: (M, K), bf16 or fp32, finite.

    Returns:
        (M, K) int8 and (M, 1) float32: their product is `x_MK` within half a scale, and a little
        more in bf16. A row of zeros gets scale 0.
    """
    largest_M1 = x_MK.abs().amax(1, keepdim=True).float()
    # A row of zeros stays one: 0 times the finite reciprocal of the smallest float.
    inverse_M1 = LARGEST / largest_M1.clamp_min(torch.finfo(torch.float32).tiny * LARGEST)
    return (x_MK * inverse_M1).round_().to(torch.int8), largest_M1 / LARGEST


class Int8Linear(QuantizedLinear):
    """A linear layer with int8 weights and int8 products.

    Attributes:
        weight: (O, I) int8.
        scale_O: (O,) float32; weight times scale is the weight that this layer stands for.
    """

    kind = "int8"

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        values_OI, scale_O1 = quantize_rows(linear.weight.detach())
        self.weight = nn.Parameter(values_OI, requires_grad=False)
        self.register_buffer("scale_O", scale_O1.squeeze(1))

    def times(self, x_MI: Tensor) -> Tensor:
        """X W^T, (M, O) in the type of `x_MI`, from x rounded to int8."""
        return self.times_quantized(*quantize_rows(x_MI), x_MI.dtype)

    def times_quantized(self, values_MI: Tensor, scale_M1: Tensor, dtype: torch.dtype) -> Tensor:
        """The same from `quantize_rows(x)`, for layers that share an input; (M, O) in `dtype`."""
        sums_MO = _product(values_MI, self.weight.t())
        return (sums_MO * scale_M1).mul_(self.scale_O).to(dtype)

    def times_transposed(self, y_MO: Tensor) -> Tensor:
        """Y W, (M, I) in the type of `y_MO`, from y times the scales of W rounded to int8."""
        values_MO, scale_M1 = quantize_rows(y_MO * self.scale_O)
        return (_product(values_MO, self.weight) * scale_M1).to(y_MO.dtype)

    def weight_in(self, dtype: torch.dtype) -> Tensor:
        """(O, I) the weight that this layer stands for, rounded to `dtype`."""
        return (self.weight * self.scale_O[:, None]).to(dtype)

    @property
    def num_bytes(self) -> int:
        """Memory of the weight with its scales."""
        return self.weight.nbytes + self.scale_O.nbytes


def _product(a_MK: Tensor, b_KN: Tensor) -> Tensor:
    """A B in whole numbers, (M, N) int32."""
    return torch._int_mm(a_MK, b_KN)
