"""RMS norm as one pass forward and one backward (arXiv:1910.07467, eq. 4).

Legend: M rows, D width.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from tunesmith.models.again import carrying
from tunesmith.models.kernels import build, liger
from tunesmith.models.kernels.memory import empty, empty_like


def rms_norm(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """Y = weight x / sqrt(mean(x^2) + eps), computed in fp32 and rounded once.

    Args:
        x: (..., D), fp32 or bf16.
        weight_D: (D,), any floating type; gets a gradient when it requires one.
        eps: Added to the mean of squares.

    Returns:
        (..., D) in the type of `x`.
    """
    if liger.serves(x):
        return liger.rms_norm(x, weight_D, eps)
    return carrying(_RmsNorm.apply(x, weight_D, eps), partial(_again, eps), x, weight_D)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x_MD = x.reshape(-1, x.shape[-1])
        weight_low = weight.float()
        y_MD, scale_M = _forward(x_MD, weight_low, eps)
        ctx.save_for_backward(x_MD, weight, scale_M)
        return y_MD.view(x.shape)

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x_MD, weight, scale_M = ctx.saved_tensors
        d_y_MD = d_y.reshape(x_MD.shape)
        d_x, d_weight = _backward(
            d_y_MD, x_MD, weight.float(), scale_M, wants_weight=ctx.needs_input_grad[1]
        )
        return d_x.view(d_y.shape), None if d_weight is None else d_weight.to(weight.dtype), None


def _again(eps: float, x: Tensor, weight_D: Tensor) -> Tensor:
    return _forward(x.reshape(-1, x.shape[-1]), weight_D.float(), eps)[0]


def _forward(x_MD: Tensor, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm, and 1 / sqrt(mean(x^2) + eps) of each row in fp32."""
    rows, width = x_MD.shape
    if build.serves(x_MD, weight_D):
        y_MD, scale_M = empty_like(x_MD), empty((rows,), torch.float32)
        build.call("rms_norm", x_MD.dtype, x_MD, weight_D, y_MD, scale_M, rows, width, float(eps))
        return y_MD, scale_M
    wide_MD = x_MD.float()
    scale_M = torch.rsqrt(wide_MD.square().mean(-1) + eps)
    return (wide_MD * scale_M[:, None] * weight_D).to(x_MD.dtype), scale_M


def _backward(
    d_y_MD: Tensor, x_MD: Tensor, weight_D: Tensor, scale_M: Tensor, wants_weight: bool
) -> tuple[Tensor, Tensor | None]:
    """With n = x scale: dx = scale (w dy - n mean(w dy n)), dw = sum over rows of dy n."""
    rows, width = x_MD.shape
    if build.serves(d_y_MD, x_MD, weight_D):
        d_x_MD, parts = empty_like(x_MD), torch.get_num_threads()
        sums_PD = weight_D.new_zeros(parts, width) if wants_weight else None
        build.call(
            "rms_norm_backward",
            x_MD.dtype,
            *(d_y_MD, x_MD, weight_D, scale_M, d_x_MD, sums_PD),
            *(rows, width, parts),
        )
        return d_x_MD, None if sums_PD is None else sums_PD.sum(0)
    wide_MD, normal_MD = d_y_MD.float(), x_MD.float() * scale_M[:, None]
    inner_MD = wide_MD * weight_D
    along_M1 = (inner_MD * normal_MD).mean(-1, keepdim=True)
    d_x_MD = ((inner_MD - normal_MD * along_M1) * scale_M[:, None]).to(x_MD.dtype)
    return d_x_MD, (wide_MD * normal_MD).sum(0) if wants_weight else None
