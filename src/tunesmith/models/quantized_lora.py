"""LoRA over quantised layers as one autograd function, laid over PEFT's own path.

y = x W^T + b + s (x A^T) B^T  (LoRA, arXiv:2106.09685, eq. 3) with the products of W those of the
quantised layer. As in the path over plain layers, fp32 masters are cast to the type of the input,
x A^T is kept, and the adapter's part is added in place by its own product.

Layers that read the same input (q, k, v; gate, up) round it to int8 once: the rounded rows of the
last input are kept until another one comes.

Legend: M rows of input, I inputs, O outputs, R rank.
"""

from collections.abc import Iterator
from types import MethodType
from typing import Any
from weakref import ref

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from tunesmith.models.int8 import Int8Linear, quantize_rows
from tunesmith.models.quantized import QuantizedLinear, dtype_of_products


def fits(layer: nn.Module) -> bool:
    """Whether this path computes what PEFT's `layer` does.

    It does over a quantised layer with one active adapter, without dropout, variants such as DoRA,
    or a bias of its own.
    """
    if type(layer) is not LoraLinear or not isinstance(layer.base_layer, QuantizedLinear):
        return False
    if len(layer.active_adapters) != 1:
        return False
    (name,) = layer.active_adapters
    return (
        name in layer.lora_A
        and name not in layer.lora_variant
        and isinstance(layer.lora_dropout[name], nn.Identity)
        and not layer.lora_bias[name]
    )


def lay_over(model: nn.Module) -> int:
    """Switch every fitting layer of `model` to this path; returns how many there are."""
    last = _LastInput()
    layers = list(_fitting(model))
    for layer in layers:
        layer.forward = MethodType(_forward_with(last), layer)
    return len(layers)


def take_off(model: nn.Module) -> None:
    """Go back to PEFT's own forward everywhere."""
    for layer in _fitting(model):
        layer.__dict__.pop("forward", None)


def _fitting(model: nn.Module) -> Iterator[LoraLinear]:
    return (layer for layer in model.modules() if fits(layer))


class _LastInput:
    """The rows of the input that was rounded last."""

    def __init__(self) -> None:
        self._of: tuple[Any, int, torch.dtype] = (lambda: None, 0, torch.float32)
        self._rows: tuple[Tensor, Tensor] | None = None

    def rows(self, x: Tensor, x_MI: Tensor) -> tuple[Tensor, Tensor]:
        """`quantize_rows(x_MI)`, anew only if `x`, which it is a view or a copy of, is another."""
        if x.is_inference():
            return quantize_rows(x_MI)  # Such a tensor does not tell when it is changed in place.
        tensor, version, dtype = self._of
        if tensor() is not x or version != x._version or dtype is not x_MI.dtype:
            self._rows = quantize_rows(x_MI)
            self._of = (ref(x), x._version, x_MI.dtype)
        return self._rows


def _forward_with(last: _LastInput) -> Any:
    """PEFT's `Linear.forward` for one active adapter without dropout."""

    def forward(self: LoraLinear, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.disable_adapters or self.merged:
            return type(self).forward(self, x, *args, **kwargs)
        (name,) = self.active_adapters
        base = self.base_layer
        dtype = dtype_of_products(x)
        with torch.autocast(x.device.type, enabled=False):
            x_MI = x.reshape(-1, x.shape[-1]).to(dtype)
            rows = last.rows(x, x_MI.detach()) if isinstance(base, Int8Linear) else None
            a_RI, b_OR = self.lora_A[name].weight, self.lora_B[name].weight
            y = _LoraProduct.apply(x_MI, a_RI, b_OR, self.scaling[name], base, rows)
            if base.bias is not None:
                y = y + base.bias.to(dtype)
        return y.view(*x.shape[:-1], -1)

    return forward


class _LoraProduct(torch.autograd.Function):
    """(x, A, B, s) -> x W^T + s (x A^T) B^T."""

    @staticmethod
    def forward(
        ctx: Any,
        x_MI: Tensor,
        a_RI: Tensor,
        b_OR: Tensor,
        scale: float,
        base: QuantizedLinear,
        rows: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        a_low, b_low = a_RI.to(x_MI.dtype), b_OR.to(x_MI.dtype)
        xa_MR = x_MI @ a_low.t()
        y_MO = base.times(x_MI) if rows is None else base.times_quantized(*rows, x_MI.dtype)
        y_MO.addmm_(xa_MR, b_low.t(), alpha=scale)
        ctx.save_for_backward(x_MI, a_low, b_low, xa_MR)
        ctx.scale, ctx.base, ctx.master = scale, base, a_RI.dtype
        return y_MO

    @staticmethod
    def backward(ctx: Any, d_y_MO: Tensor) -> tuple[Tensor | None, ...]:
        x_MI, a_low, b_low, xa_MR = ctx.saved_tensors
        d_xa_MR = (d_y_MO @ b_low).mul_(ctx.scale)
        d_a = (d_xa_MR.t() @ x_MI).to(ctx.master)
        d_b = (d_y_MO.t() @ xa_MR).to(ctx.master).mul_(ctx.scale)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = ctx.base.times_transposed(d_y_MO)
            d_x.addmm_(d_xa_MR, a_low)
        return d_x, d_a, d_b, None, None, None
