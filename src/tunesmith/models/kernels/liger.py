"""Elementwise kernels for CUDA, from Liger Kernel (the extra `gpu`): one pass, not five.

`norm`, `gate` and `rotary` ask `serves` once and come here; their callers know of no choice. Where
the package is missing, or too old to have what is named in `_NEEDED`, torch computes.

Legend: T tokens of a pack, H query heads, G key heads, D head width, F width of the feed-forward.
"""

from functools import cache
from importlib import import_module
from importlib.metadata import version
from types import ModuleType

import torch
from torch import Tensor

_NEEDED = (
    "LigerRMSNormFunction",
    "LigerFusedGateUpSiLUMulFunction",
    "LigerGELUMulFunction",
    "LigerRopeFunction",
)


@cache
def _ops() -> ModuleType | None:
    """The package's autograd functions; None where they cannot be had."""
    try:
        ops = import_module("liger_kernel.ops")
    except ImportError:
        return None
    return ops if all(hasattr(ops, name) for name in _NEEDED) else None


def describe() -> str | None:
    """`liger` with its version where it computes, None where it does not; for the lock file."""
    if not torch.cuda.is_available() or _ops() is None:
        return None
    return f"liger {version('liger-kernel')}"


def serves(*tensors: Tensor) -> bool:
    """Whether Liger can take these tensors: on a GPU, fp32 or bf16."""
    return all(
        tensor.is_cuda and tensor.dtype in (torch.float32, torch.bfloat16) for tensor in tensors
    ) and (_ops() is not None)


def rms_norm(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """`kernels.norm.rms_norm`; differentiable.

    "gemma" is Liger's name for what is done here: all of it in fp32, rounded once. Not in place,
    since a gradient that a norm gets may be that of a residual connection too.
    """
    return _ops().LigerRMSNormFunction.apply(x, weight_D, eps, 0.0, "gemma", False)


def gated(gate_up: Tensor, activation: str) -> Tensor:
    """`kernels.gate.gated`; differentiable."""
    gate_up_MF = gate_up.reshape(-1, gate_up.shape[-1])  # Its gradient comes with two dimensions.
    if activation == "silu":
        h_MF = _ops().LigerFusedGateUpSiLUMulFunction.apply(gate_up_MF)
    else:
        h_MF = _ops().LigerGELUMulFunction.apply(*gate_up_MF.chunk(2, -1))
    return h_MF.view(*gate_up.shape[:-1], -1)


def turned(q_THD: Tensor, k_TGD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys turned by their positions; differentiable.

    Liger turns in place what is contiguous, so nothing else may read `q_THD` and `k_TGD` any more.
    """
    q, k = (x.transpose(0, 1)[None] for x in (q_THD, k_TGD))
    q, k = _ops().LigerRopeFunction.apply(q, k, cos_TD, sin_TD)
    return q[0].transpose(0, 1), k[0].transpose(0, 1)
