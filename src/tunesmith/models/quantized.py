"""What all quantised layers share: a frozen linear layer whose weight is held in fewer bits.

A kind of quantisation says how to multiply by W and by its transpose; here is the layer around it,
its place in autograd (a gradient for the input, none for W), and PEFT's view of it: a subclass of
`nn.Linear`, so that adapters attach as they do to the layer it stands for.

Legend: M rows of input, I inputs, O outputs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models.weight import Weight


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

    @classmethod
    def together(cls, layers: Sequence["QuantizedLinear"]) -> Weight:
        """The weights of layers of this kind that read the same input, end to end."""
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
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        with torch.autocast(kind, enabled=False):
            x_MI = x.reshape(-1, x.shape[-1]).to(dtype)
            y_MO = _FrozenProduct.apply(x_MI, bias, self.together([self]))
        return y_MO.view(*x.shape[:-1], self.out_features)

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
    """(x, b) -> x W^T + b."""

    @staticmethod
    def forward(ctx: Any, x_MI: Tensor, bias_O: Tensor | None, weight: Weight) -> Tensor:
        ctx.weight = weight
        return weight.times(x_MI, bias_O)

    @staticmethod
    def backward(ctx: Any, d_y_MO: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        d_x = ctx.weight.times_transposed(d_y_MO) if ctx.needs_input_grad[0] else None
        return d_x, d_y_MO.sum(0) if ctx.needs_input_grad[1] else None, None
