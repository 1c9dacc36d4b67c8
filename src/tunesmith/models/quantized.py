"""What all quantised layers share: a frozen linear layer whose weight is held in fewer bits.

A kind of quantisation says how to multiply by W and by its transpose; here is the layer around it,
its place in autograd (a gradient for the input, none for W), and PEFT's view of it: a subclass of
`nn.Linear`, so that adapters attach as they do to the layer it stands for.

Legend: M rows of input, I inputs, O outputs.
"""

from typing import Any

import torch
from torch import Tensor, nn


class QuantizedLinear(nn.Linear):
    """y = x W^T + b with a frozen W in fewer bits; a kind of quantisation is a subclass.

    Args:
        linear: The layer to stand for; its bias is taken over as it is.
    """

    kind: str
    """Name of the quantisation, as `model.quantize` has it."""

    def __init__(self, linear: nn.Linear) -> None:
        # On "meta" the weight of nn.Linear takes no memory; a subclass puts its own there.
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.bias = linear.bias
        self.train(linear.training)

    def times(self, x_MI: Tensor) -> Tensor:
        """X W^T, (M, O) in the type of `x_MI`; no gradient."""
        raise NotImplementedError

    def times_transposed(self, y_MO: Tensor) -> Tensor:
        """Y W, (M, I) in the type of `y_MO`; no gradient."""
        raise NotImplementedError

    def weight_in(self, dtype: torch.dtype) -> Tensor:
        """(O, I) the weight that this layer multiplies by, rounded to `dtype`."""
        raise NotImplementedError

    @property
    def num_weights(self) -> int:
        """Numbers that the weight stands for, whatever they are packed into."""
        return self.in_features * self.out_features

    @property
    def num_bytes(self) -> int:
        """Memory of the weight with its scales."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """X W^T + b, (..., O); the type is that of autocast where that is on, else of `x`."""
        dtype = dtype_of_products(x)
        with torch.autocast(x.device.type, enabled=False):
            y = _FrozenProduct.apply(x.reshape(-1, x.shape[-1]).to(dtype), self)
            if self.bias is not None:
                y = y + self.bias.to(dtype)
        return y.view(*x.shape[:-1], -1)

    def dequantized(self, dtype: torch.dtype) -> nn.Linear:
        """A plain layer with the same weight, for programs that know no other."""
        plain = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        plain.weight = nn.Parameter(self.weight_in(dtype), requires_grad=False)
        plain.bias = self.bias
        return plain.train(self.training)

    def extra_repr(self) -> str:
        """What printing a model shows of this layer."""
        return f"{super().extra_repr()}, kind={self.kind}"


class _FrozenProduct(torch.autograd.Function):
    """x -> x W^T, and back d x = d y W."""

    @staticmethod
    def forward(ctx: Any, x_MI: Tensor, layer: QuantizedLinear) -> Tensor:
        ctx.layer = layer
        return layer.times(x_MI)

    @staticmethod
    def backward(ctx: Any, d_y_MO: Tensor) -> tuple[Tensor, None]:
        return ctx.layer.times_transposed(d_y_MO), None


def dtype_of_products(x: Tensor) -> torch.dtype:
    """The type that a product with `x` runs in: that of autocast where it is on, else of `x`."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
