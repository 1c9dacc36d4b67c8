"""Gated units of the feed-forward layer as one pass: h = act(g) u (arXiv:2002.05202, eq. 6).

Legend: M rows, F width of the feed-forward layer.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tunesmith.models.again import carrying
from tunesmith.models.kernels import build, liger
from tunesmith.models.kernels.memory import empty, empty_like


def gated(gate_up: Tensor, activation: str) -> Tensor:
    """act(gate) up, computed in fp32 and rounded once.

    Args:
        gate_up: (..., 2F), gate in the first half, up in the second; fp32 or bf16.
        activation: "silu", or "gelu" for its tanh form.

    Returns:
        (..., F) in the type of `gate_up`.
    """
    if liger.serves(gate_up):
        return liger.gated(gate_up, activation)
    return carrying(_Gated.apply(gate_up, activation), partial(_forward, activation), gate_up)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor, activation: str) -> Tensor:
        ctx.save_for_backward(gate_up)
        ctx.activation = activation
        return _forward(activation, gate_up)

    @staticmethod
    def backward(ctx: Any, d_h: Tensor) -> tuple[Tensor, None]:
        (gate_up,) = ctx.saved_tensors
        d_h = d_h.contiguous()
        if not build.serves(gate_up, d_h):
            return _plain_backward(d_h, gate_up, ctx.activation), None
        d_gate_up, width = empty_like(gate_up), d_h.shape[-1]
        rows = d_h.numel() // width
        build.call(
            f"{ctx.activation}_gate_backward",
            gate_up.dtype,
            *(d_h, gate_up, d_gate_up, rows, width),
        )
        return d_gate_up, None


def _forward(activation: str, gate_up: Tensor) -> Tensor:
    if not build.serves(gate_up):
        gate, up = gate_up.float().chunk(2, -1)
        return (activate(gate, activation) * up).to(gate_up.dtype)
    width = gate_up.shape[-1] // 2
    h = empty((*gate_up.shape[:-1], width), gate_up.dtype)
    build.call(f"{activation}_gate", gate_up.dtype, gate_up, h, h.numel() // width, width)
    return h


def _plain_backward(d_h: Tensor, gate_up: Tensor, activation: str) -> Tensor:
    with torch.enable_grad():
        wide = gate_up.detach().float().requires_grad_()
        gate, up = wide.chunk(2, -1)
        h = activate(gate, activation) * up
    return torch.autograd.grad(h, wide, d_h.float())[0].to(gate_up.dtype)


def activate(x: Tensor, activation: str) -> Tensor:
    """SiLU, or the tanh form of GELU."""
    return F.silu(x) if activation == "silu" else F.gelu(x, approximate="tanh")
