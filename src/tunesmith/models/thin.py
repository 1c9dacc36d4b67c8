"""Products of low rank beside those of a weight: the A and B of LoRA, each in both directions.

Legend: M rows, R ranks, N columns (inputs for A, outputs for B), I inputs, O outputs.
"""

from dataclasses import dataclass

from torch import Tensor

from tunesmith.models.kernels.product import Blocks, Laid, can_lay, lay, outer, product
from tunesmith.models.packed import Packed
from tunesmith.models.weight import Weight


@dataclass(frozen=True, slots=True)
class Thin:
    """A matrix C of few rows.

    Attributes:
        matrix_RN: C, in the type of the computation.
        blocks: All of it that is not zero; empty for all.
        laid: C and C^T laid out; None where they cannot be, or the weight beside them is not.
    """

    matrix_RN: Tensor
    blocks: Blocks
    laid: tuple[Laid, Laid] | None

    @classmethod
    def of(cls, matrix_RN: Tensor, beside: Weight, blocks: Blocks = ()) -> "Thin":
        """For products that are added to those of `beside`."""
        transposed = matrix_RN.t()
        if not (isinstance(beside, Packed) and can_lay(matrix_RN) and can_lay(transposed)):
            return cls(matrix_RN, blocks, None)
        turned = [(columns, rows) for rows, columns in blocks]
        return cls(matrix_RN, blocks, (lay(matrix_RN, blocks), lay(transposed, turned, True)))

    def narrowed(self, x_MN: Tensor) -> Tensor:
        """X C^T, (M, R) in the type of `x_MN`."""
        return x_MN @ self.matrix_RN.t() if self.laid is None else product(x_MN, self.laid[1])

    def gradient(self, t_MR: Tensor, x_MN: Tensor) -> Tensor:
        """T^T X, (R, N), which means nothing outside of the blocks; float32 where C is laid out."""
        # Many numbers in the columns of a result make a product faster than few.
        return t_MR.t() @ x_MN if self.laid is None else outer(t_MR, x_MN, self.blocks)


def times(weight: Weight, x_MI: Tensor, bias_O: Tensor | None, t_MR: Tensor, thin: Thin) -> Tensor:
    """X W^T + b + T C, (M, O), with C of `thin` (R, O)."""
    if isinstance(weight, Packed) and thin.laid is not None:
        return product(x_MI, weight.by_inputs, bias_O, (t_MR, thin.laid[0]))
    return weight.times(x_MI, bias_O).addmm_(t_MR, thin.matrix_RN)


def times_transposed(weight: Weight, y_MO: Tensor, t_MR: Tensor, thin: Thin) -> Tensor:
    """Y W + T C, (M, I), with C of `thin` (R, I)."""
    if isinstance(weight, Packed) and thin.laid is not None:
        return product(y_MO, weight.by_outputs, None, (t_MR, thin.laid[0]))
    return weight.times_transposed(y_MO).addmm_(t_MR, thin.matrix_RN)
