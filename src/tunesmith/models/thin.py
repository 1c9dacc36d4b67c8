"""Products of low rank beside those of a weight: the A and B of LoRA, each in both directions.

Legend: M rows, R ranks, N columns (inputs for A, outputs for B), I inputs, O outputs.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tunesmith.models.kernels.panels import Blocks
from tunesmith.models.kernels.product import Laid, can_lay, lay, outer, product
from tunesmith.models.weight import Adding, Weight


@dataclass(frozen=True, slots=True)
class Thin:
    """A matrix C of few rows.

    Attributes:
        matrix_RN: C, in the type of the computation.
        blocks: All of it that is not zero; empty for all.
        beside: C as the weight beside it adds T C in its own sums; None where it does not.
        narrow: C^T laid out; None where it cannot be.
    """

    matrix_RN: Tensor
    blocks: Blocks
    beside: Any | None
    narrow: Laid | None

    @classmethod
    def of(cls, matrix_RN: Tensor, beside: Weight, blocks: Blocks = ()) -> "Thin":
        """For products that are added to those of `beside`."""
        transposed, turned = matrix_RN.t(), [(columns, rows) for rows, columns in blocks]
        laid = beside.lay_thin(matrix_RN, blocks) if isinstance(beside, Adding) else None
        narrow = lay(transposed, turned, True) if laid and can_lay(transposed) else None
        return cls(matrix_RN, blocks, laid, narrow)

    def narrowed(self, x_MN: Tensor) -> Tensor:
        """X C^T, (M, R) in the type of `x_MN`."""
        return x_MN @ self.matrix_RN.t() if self.narrow is None else product(x_MN, self.narrow)

    def gradient(self, t_MR: Tensor, x_MN: Tensor) -> Tensor:
        """T^T X, (R, N), which means nothing outside of the blocks; float32 where C is laid out."""
        # Many numbers in the columns of a result make a product faster than few.
        return t_MR.t() @ x_MN if self.narrow is None else outer(t_MR, x_MN, self.blocks)


def times(weight: Weight, x_MI: Tensor, bias_O: Tensor | None, t_MR: Tensor, thin: Thin) -> Tensor:
    """X W^T + b + T C, (M, O), with C of `thin` (R, O)."""
    if thin.beside is None:
        return weight.times(x_MI, bias_O).addmm_(t_MR, thin.matrix_RN)
    return weight.times(x_MI, bias_O, (t_MR, thin.beside))


def times_transposed(weight: Weight, y_MO: Tensor, t_MR: Tensor, thin: Thin) -> Tensor:
    """Y W + T C, (M, I), with C of `thin` (R, I)."""
    if thin.beside is None:
        return weight.times_transposed(y_MO).addmm_(t_MR, thin.matrix_RN)
    return weight.times_transposed(y_MO, (t_MR, thin.beside))
