"""Int8 frozen weights with int8 activations made on the way: both products in whole numbers.

W is rounded to 8 bits with one scale for each output, once (LLM.int8, arXiv:2208.07339, section
2.1); x, and in the backward pass d y, at every call, with a scale for each `SEGMENT` numbers of a
row. With one for all of a row, as there, a feature a hundred times larger than the others leaves
them a few steps, and the held-out loss of the starter rose by 9 %. With segments s

    y   = sum over s of s_x,s (q_x,s Q_W,s^T), times s_W
    d x = sum over s of s_y,s  q_y,s Q_W,s      with q_y, s_y of d y s_W

In the second product the sum runs over the outputs, so the scales of W cannot be taken out of it;
they are multiplied into d y before that is rounded, which is exact up to that rounding. The sums
of a segment are exact.

On a CPU with a C compiler both products are those of `kernels/whole.py`, elsewhere those of torch
(`kernels/int8.py`). Both give the same sums.

Legend: M rows of input, I inputs, O outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from tunesmith.models.kernels.int8 import quantize_rows, scale_sums, sums
from tunesmith.models.kernels.panels import Blocks
from tunesmith.models.kernels.whole import LaidThin, lay_thin, product, serves
from tunesmith.models.quantized import QuantizedLinear
from tunesmith.models.weight import end_to_end

SEGMENT = 64
"""Numbers of a row that share a scale. Held-out loss of the starter on 40 tickets, before training,
above that of the base as it is: 0.5 % with 32, 0.6 % with 64, 2.7 % with 128, 0.7 % with 192 (whose
bounds lie elsewhere), 8.6 % with all of a row. Products of 64 take a fifth longer than of a row."""


class Int8Linear(QuantizedLinear):
    """A linear layer with int8 weights and int8 products.

    Attributes:
        weight: (O, I) int8.
        scale_O: (O,) float32; weight times scale is the weight that this layer stands for.
    """

    kind = "int8"

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        values_OI, scale_O = quantize_rows(linear.weight.detach().contiguous())
        self.weight = nn.Parameter(values_OI, requires_grad=False)
        self.register_buffer("scale_O", scale_O)

    @classmethod
    def together(cls, layers: Sequence["Int8Linear"]) -> "Int8Weight":
        """The weights of layers that read the same input, end to end and not copied."""
        if len(layers) == 1:
            scale_O = layers[0].scale_O
        else:
            scale_O = torch.cat([layer.scale_O for layer in layers])
        ends = accumulate((layer.out_features for layer in layers), initial=0)
        rows = tuple(slice(start, end) for start, end in pairwise(ends))
        return Int8Weight(end_to_end([layer.weight for layer in layers]), scale_O, rows)

    def weight_in(self, dtype: torch.dtype) -> Tensor:
        """(O, I) the weight that this layer stands for, rounded to `dtype`."""
        return (self.weight * self.scale_O[:, None]).to(dtype)

    @property
    def num_bytes(self) -> int:
        """Memory of the weight with its scales."""
        return self.weight.nbytes + self.scale_O.nbytes


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """Weights of one or several layers, end to end.

    Attributes:
        values_OI: (O, I) int8.
        scale_O: (O,) float32.
        rows: The outputs of each layer.
    """

    values_OI: Tensor
    scale_O: Tensor
    rows: tuple[slice, ...]

    @property
    def inputs(self) -> list[slice]:
        """The segments that the forward product sums over."""
        return _segments([slice(0, self.values_OI.shape[1])])

    @property
    def outputs(self) -> list[slice]:
        """Those of the backward product: of each layer, as it has them where it stands alone."""
        return _segments(self.rows)

    @property
    def served(self) -> bool:
        """Whether both products are those of the kernel."""
        return serves(self.values_OI, self.outputs) and serves(self.values_OI.t(), self.inputs)

    def lay_thin(self, matrix_RN: Tensor, blocks: Blocks = ()) -> LaidThin | None:
        """A matrix of few rows as the products add it; None where they do not."""
        return lay_thin(matrix_RN, blocks) if self.served else None

    def times(
        self,
        x_MI: Tensor,
        bias_O: Tensor | None = None,
        thin: tuple[Tensor, LaidThin] | None = None,
    ) -> Tensor:
        """X W^T + b + T C, (M, O) in the type of `x_MI`, from x rounded to int8."""
        values_IO, scale_O = self.values_OI.t(), self.scale_O
        if self.served:
            return product(x_MI, values_IO, self.inputs, None, scale_O, bias_O, thin)
        y_MO = _plain_product(x_MI, values_IO, self.inputs, None).mul_(scale_O).to(x_MI.dtype)
        return y_MO if bias_O is None else y_MO.add_(bias_O)

    def times_transposed(self, y_MO: Tensor, thin: tuple[Tensor, LaidThin] | None = None) -> Tensor:
        """Y W + T C, (M, I) in the type of `y_MO`, from y times the scales of W rounded to int8."""
        if self.served:
            return product(y_MO, self.values_OI, self.outputs, self.scale_O, thin=thin)
        return _plain_product(y_MO, self.values_OI, self.outputs, self.scale_O).to(y_MO.dtype)


def _segments(parts: Sequence[slice]) -> list[slice]:
    """Each part in segments, of which the last may be shorter."""
    return [
        slice(start, min(start + SEGMENT, part.stop))
        for part in parts
        for start in range(part.start, part.stop, SEGMENT)
    ]


def _plain_product(
    x_MK: Tensor, b_KN: Tensor, segments: list[slice], factor_K: Tensor | None
) -> Tensor:
    """(X factor) B, (M, N) float32, with torch's products."""
    x_MK, total_MN = x_MK.contiguous(), None
    for part in segments:
        factor = None if factor_K is None else factor_K[part]
        values, scale_M = quantize_rows(x_MK[:, part], factor)
        total_MN = scale_sums(sums(values, b_KN[part]), scale_M, None, total_MN, torch.float32)
    return total_MN
