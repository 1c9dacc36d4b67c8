"""What a product needs of a frozen or trained weight: to multiply by it, and by its transpose.

Legend: M rows of input, I inputs, O outputs.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunesmith.models.kernels.memory import empty
from tunesmith.models.kernels.panels import Blocks


class Weight(Protocol):
    """The weights of one layer, or of several that read the same input, end to end."""

    def times(self, x_MI: Tensor, bias_O: Tensor | None = None) -> Tensor:
        """X W^T + b, (M, O) in the type of `x_MI`; no gradient."""

    def times_transposed(self, y_MO: Tensor) -> Tensor:
        """Y W, (M, I) in the type of `y_MO`; no gradient."""


@runtime_checkable
class Adding(Protocol):
    """Weights whose products add one of low rank, T C, in their own sums."""

    def lay_thin(self, matrix_RN: Tensor, blocks: Blocks = ()) -> Any | None:
        """C as the products read it; None where they cannot add it."""

    def times(
        self, x_MI: Tensor, bias_O: Tensor | None = None, thin: tuple[Tensor, Any] | None = None
    ) -> Tensor:
        """X W^T + b + T C, (M, O) in the type of `x_MI`, with T and C laid out as `thin`."""

    def times_transposed(self, y_MO: Tensor, thin: tuple[Tensor, Any] | None = None) -> Tensor:
        """Y W + T C, (M, I) in the type of `y_MO`; no gradient."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A weight as it is, in the type of the computation."""

    weight_OI: Tensor

    def times(self, x_MI: Tensor, bias_O: Tensor | None = None) -> Tensor:
        """X W^T + b, (M, O)."""
        if x_MI.device.type != "cpu":
            return F.linear(x_MI, self.weight_OI, bias_O)
        y_MO = empty((len(x_MI), len(self.weight_OI)), x_MI.dtype)
        if bias_O is None:
            return torch.mm(x_MI, self.weight_OI.t(), out=y_MO)
        return torch.addmm(bias_O, x_MI, self.weight_OI.t(), out=y_MO)

    def times_transposed(self, y_MO: Tensor) -> Tensor:
        """Y W, (M, I)."""
        if y_MO.device.type != "cpu":
            return y_MO @ self.weight_OI
        x_MI = empty((len(y_MO), self.weight_OI.shape[1]), y_MO.dtype)
        return torch.mm(y_MO, self.weight_OI, out=x_MI)


def end_to_end(weights: list[nn.Parameter]) -> Tensor:
    """One matrix of all rows; the parameters become views of it, if they are not yet."""
    if len(weights) == 1:
        return weights[0].detach()
    rows, columns = sum(map(len, weights)), weights[0].shape[1]
    if _lie_end_to_end(weights):
        return weights[0].detach().as_strided((rows, columns), (columns, 1))
    whole_OI = torch.cat([weight.detach() for weight in weights])
    for weight, own in zip(weights, whole_OI.split([*map(len, weights)]), strict=True):
        weight.data = own
    return whole_OI


def _lie_end_to_end(weights: list[nn.Parameter]) -> bool:
    """Whether each begins in memory where the one before it ends."""
    return all(
        before.is_contiguous()
        and before.untyped_storage().data_ptr() == after.untyped_storage().data_ptr()
        and before.data_ptr() + before.numel() * before.element_size() == after.data_ptr()
        for before, after in pairwise(weights)
    )
