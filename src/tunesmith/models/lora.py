"""The fast compute path of LoRA, laid over PEFT's layers.

y = x W^T + s (x A^T) B^T  (LoRA, arXiv:2106.09685, eq. 3) as one autograd function. PEFT's own
forward casts the input to the adapter's fp32, multiplies there, and adds in a third pass; here the
fp32 masters are cast down to the type of the input, x A^T is kept (it is thin), and the adapter's
part is added in place by the matrix product itself. The frozen W gets no gradient and is not
copied.

Legend: M rows of input, I inputs, O outputs, R rank.
"""

from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn


class _LoraMatmul(torch.autograd.Function):
    """(x, W, bias, A, B, s) -> x W^T + bias + s (x A^T) B^T."""

    @staticmethod
    def forward(
        ctx: Any,
        x_MI: Tensor,
        weight_OI: Tensor,
        bias_O: Tensor | None,
        a_RI: Tensor,
        b_OR: Tensor,
        scale: float,
    ) -> Tensor:
        a_low, b_low = a_RI.to(x_MI.dtype), b_OR.to(x_MI.dtype)
        xa_MR = x_MI @ a_low.t()
        y_MO = nn.functional.linear(x_MI, weight_OI, bias_O)
        y_MO.addmm_(xa_MR, b_low.t(), alpha=scale)
        ctx.save_for_backward(x_MI, weight_OI, a_low, b_low, xa_MR)
        ctx.scale, ctx.master = scale, a_RI.dtype
        return y_MO

    @staticmethod
    def backward(ctx: Any, d_y_MO: Tensor) -> tuple[Tensor | None, ...]:
        x_MI, weight_OI, a_low, b_low, xa_MR = ctx.saved_tensors
        d_xa_MR = (d_y_MO @ b_low).mul_(ctx.scale)
        d_a = (d_xa_MR.t() @ x_MI).to(ctx.master)
        d_b = (d_y_MO.t() @ xa_MR).to(ctx.master).mul_(ctx.scale)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = d_y_MO @ weight_OI
            d_x.addmm_(d_xa_MR, a_low)
        return d_x, None, None, d_a, d_b, None


def _fast_forward(self: LoraLinear, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """PEFT's `Linear.forward` for one active adapter without dropout."""
    if self.disable_adapters or self.merged:
        return type(self).forward(self, x, *args, **kwargs)
    (name,) = self.active_adapters
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    base = self.base_layer
    bias = None if base.bias is None else base.bias.to(dtype)
    with torch.autocast(device, enabled=False):
        y = _LoraMatmul.apply(
            x.reshape(-1, x.shape[-1]).to(dtype),
            base.weight.to(dtype),
            bias,
            self.lora_A[name].weight,
            self.lora_B[name].weight,
            self.scaling[name],
        )
    return y.view(*x.shape[:-1], -1)


def fits(layer: nn.Module) -> bool:
    """Whether the fast path computes exactly what PEFT's `layer` does.

    It does for a plain linear layer with one active adapter, without dropout, variants such as
    DoRA, a bias of its own, or a base whose weights are trained too.
    """
    if type(layer) is not LoraLinear or type(layer.base_layer) is not nn.Linear:
        return False
    if len(layer.active_adapters) != 1:
        return False
    (name,) = layer.active_adapters
    return (
        name in layer.lora_A
        and name not in layer.lora_variant
        and isinstance(layer.lora_dropout[name], nn.Identity)
        and not layer.lora_bias[name]
        and not layer.base_layer.weight.requires_grad
    )


def lay_over(model: nn.Module) -> int:
    """Switch every fitting LoRA layer of `model` to the fast path; returns how many there are."""
    layers = list(_fitting(model))
    for layer in layers:
        layer.forward = MethodType(_fast_forward, layer)
    return len(layers)


def take_off(model: nn.Module) -> None:
    """Go back to PEFT's own forward everywhere."""
    for layer in model.modules():
        if isinstance(layer, LoraLinear):
            layer.__dict__.pop("forward", None)


def _fitting(model: nn.Module) -> Iterator[LoraLinear]:
    return (layer for layer in model.modules() if fits(layer))
