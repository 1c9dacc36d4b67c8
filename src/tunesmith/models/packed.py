"""What products read of weights that are not trained: laid out once, where memory is plenty.

Legend: M rows, I inputs, O outputs, R ranks, N columns.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from tunesmith.models.kernels.product import Laid, can_lay, lay, product
from tunesmith.models.weight import Plain, Weight

FREE = 0.25
"""Share of the machine's memory that stays free. Two layouts take twice the memory of the weight,
which stays as it is for whatever else reads it."""


@dataclass(frozen=True, slots=True)
class Thin:
    """The second matrix of a product of low rank.

    Attributes:
        matrix_RN: (R, N), in the type of the computation.
        laid: The same, laid out; None where it cannot be, or nobody would read it.
    """

    matrix_RN: Tensor
    laid: Laid | None

    @classmethod
    def of(
        cls, matrix_RN: Tensor, beside: Weight, blocks: Sequence[tuple[slice, slice]] = ()
    ) -> "Thin":
        """For products that are added to those of `beside`; `blocks` are all that is not zero."""
        wanted = isinstance(beside, Packed) and can_lay(matrix_RN)
        return cls(matrix_RN, lay(matrix_RN, blocks) if wanted else None)


@dataclass(frozen=True, slots=True)
class Packed:
    """A frozen bf16 weight, laid out for both directions."""

    by_inputs: Laid
    """W^T, (I, O)."""
    by_outputs: Laid
    """W, (O, I)."""

    def times(self, x_MI: Tensor, bias_O: Tensor | None = None) -> Tensor:
        """X W^T + b, (M, O)."""
        return product(x_MI, self.by_inputs, bias_O)

    def times_transposed(self, y_MO: Tensor) -> Tensor:
        """Y W, (M, I)."""
        return product(y_MO, self.by_outputs)


def times(weight: Weight, x_MI: Tensor, bias_O: Tensor | None, t_MR: Tensor, thin: Thin) -> Tensor:
    """X W^T + b + T C, (M, O), with C the (R, O) of `thin`."""
    if isinstance(weight, Packed) and thin.laid is not None:
        return product(x_MI, weight.by_inputs, bias_O, (t_MR, thin.laid))
    return weight.times(x_MI, bias_O).addmm_(t_MR, thin.matrix_RN)


def times_transposed(weight: Weight, y_MO: Tensor, t_MR: Tensor, thin: Thin) -> Tensor:
    """Y W + T C, (M, I), with C the (R, I) of `thin`."""
    if isinstance(weight, Packed) and thin.laid is not None:
        return product(y_MO, weight.by_outputs, None, (t_MR, thin.laid))
    return weight.times_transposed(y_MO).addmm_(t_MR, thin.matrix_RN)


def frozen(weight_OI: Tensor, dtype: torch.dtype) -> Plain | Packed:
    """What products in `dtype` read of a weight that is not trained; made once and kept with it.

    Args:
        weight_OI: (O, I), of any type.
        dtype: That the products run in.
    """
    state = (dtype, weight_OI.data_ptr(), weight_OI._version)
    kept = _kept.get(weight_OI)
    if kept is None or kept[0] != state:
        kept = _kept[weight_OI] = (state, _made(weight_OI.detach(), dtype))
    return kept[1]


_kept: WeakTensorKeyDictionary[tuple[Hashable, Plain | Packed]] = WeakTensorKeyDictionary()


def _made(weight_OI: Tensor, dtype: torch.dtype) -> Plain | Packed:
    low_OI = weight_OI.to(dtype)
    if can_lay(low_OI) and can_lay(low_OI.t()) and _plenty(2 * low_OI.nbytes):
        return Packed(lay(low_OI.t()), lay(low_OI))
    return Plain(low_OI)


def _plenty(num_bytes: int) -> bool:
    memory = psutil.virtual_memory()
    return memory.available - num_bytes > FREE * memory.total
