"""NF4 frozen weights: four bits each, made wide again for the time of one product.

NormalFloat of 4 bits in blocks of 64 with their scales rounded to 8 bits (QLoRA, arXiv:2305.14314,
section 3). Rounding, packing and unpacking are those of bitsandbytes; the products are plain ones
in the type of the input. This saves memory, not time: the weight is unpacked once in the forward
and once in the backward pass, a cost that is shared by all rows of the batch.

Legend: M rows of input, I inputs, O outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.errors import MachineError
from tunesmith.models.quantized import QuantizedLinear

BLOCK = 64
"""Weights that share a scale."""


@cache
def library() -> ModuleType:
    """`bitsandbytes.functional`.

    Raises:
        MachineError: It is not installed.
    """
    try:
        from bitsandbytes import functional
    except ImportError as error:
        raise MachineError(
            "model.quantize: nf4",
            got=f"no bitsandbytes ({error})",
            expected="the package bitsandbytes",
            hint="pip install 'tunesmith[quant]', or model.quantize: int8",
        ) from error
    return functional


class Nf4Linear(QuantizedLinear):
    """A linear layer whose weight is held in NF4.

    Attributes:
        weight: (O * I / 2, 1) uint8, two weights in each.
        state: bitsandbytes' scales of the blocks, rounded to 8 bits themselves.
    """

    kind = "nf4"

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        packed, self.state = library().quantize_4bit(
            linear.weight.detach().contiguous(),
            blocksize=BLOCK,
            compress_statistics=True,
            quant_type="nf4",
        )
        self.weight = nn.Parameter(packed, requires_grad=False)

    @classmethod
    def together(cls, layers: Sequence["Nf4Linear"]) -> "Nf4Weight":
        """The weights of layers that read the same input, end to end once they are unpacked."""
        return Nf4Weight(tuple(layers))

    def weight_in(self, dtype: torch.dtype) -> Tensor:
        """(O, I) the weight that this layer stands for, rounded to `dtype`."""
        return library().dequantize_4bit(self.weight, self.state).to(dtype)

    @property
    def num_bytes(self) -> int:
        """Memory of the weight with its scales."""
        inner = self.state.state2
        scales = (self.state.absmax, self.state.code, self.state.offset, inner.absmax, inner.code)
        return self.weight.nbytes + sum(part.nbytes for part in scales)

    def _apply(self, fn: Any, recurse: bool = True) -> "Nf4Linear":
        """The scales are no buffers of the module, so they follow it to a device here."""
        super()._apply(fn, recurse)
        self.state.to(self.weight.device)
        return self


@dataclass(frozen=True, slots=True)
class Nf4Weight:
    """Weights of one or several layers, unpacked for each product and let go after it."""

    layers: tuple[Nf4Linear, ...]

    def times(self, x_MI: Tensor, bias_O: Tensor | None = None) -> Tensor:
        """X W^T + b, (M, O) in the type of `x_MI`."""
        return nn.functional.linear(x_MI, self._weight(x_MI.dtype), bias_O)

    def times_transposed(self, y_MO: Tensor) -> Tensor:
        """Y W, (M, I) in the type of `y_MO`."""
        return y_MO @ self._weight(y_MO.dtype)

    def _weight(self, dtype: torch.dtype) -> Tensor:
        parts = [layer.weight_in(dtype) for layer in self.layers]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
