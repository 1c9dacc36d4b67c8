"""What products read of weights that are not trained: layouts, kept where memory is plenty.

Legend: M rows, I inputs, O outputs.
"""

from collections.abc import Hashable
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from tunesmith.models.kernels.panels import Blocks
from tunesmith.models.kernels.product import Laid, can_lay, lay, product
from tunesmith.models.weight import Plain

FREE = 0.25
"""Share of the machine's memory that stays free. Only beside it is a weight laid out for good: two
layouts take twice its memory, and it stays too, for whatever else reads it. Otherwise it is laid
out in each call, which makes a step a fifth slower. The bits are the same: how much memory is free
is no part of a run."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A frozen bf16 weight whose products read layouts of it.

    Attributes:
        weight_OI: The weight.
        kept: W^T and W laid out, where that is kept.
    """

    weight_OI: Tensor
    kept: tuple[Laid, Laid] | None

    @property
    def by_inputs(self) -> Laid:
        """W^T, (I, O)."""
        return lay(self.weight_OI.t()) if self.kept is None else self.kept[0]

    @property
    def by_outputs(self) -> Laid:
        """W, (O, I)."""
        return lay(self.weight_OI) if self.kept is None else self.kept[1]

    def lay_thin(self, matrix_RN: Tensor, blocks: Blocks = ()) -> Laid | None:
        """A matrix of few rows as the products add it; None where they cannot."""
        return lay(matrix_RN, blocks) if can_lay(matrix_RN) else None

    def times(
        self, x_MI: Tensor, bias_O: Tensor | None = None, thin: tuple[Tensor, Laid] | None = None
    ) -> Tensor:
        """X W^T + b + T C, (M, O)."""
        return product(x_MI, self.by_inputs, bias_O, thin)

    def times_transposed(self, y_MO: Tensor, thin: tuple[Tensor, Laid] | None = None) -> Tensor:
        """Y W + T C, (M, I)."""
        return product(y_MO, self.by_outputs, None, thin)


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
    if not (can_lay(low_OI) and can_lay(low_OI.t())):
        return Plain(low_OI)
    kept = (lay(low_OI.t()), lay(low_OI)) if _plenty(2 * low_OI.nbytes) else None
    return Packed(low_OI, kept)


def _plenty(num_bytes: int) -> bool:
    memory = psutil.virtual_memory()
    return memory.available - num_bytes > FREE * memory.total
