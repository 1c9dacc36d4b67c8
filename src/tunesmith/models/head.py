"""The language-model head and its loss, on labelled positions only, logits never kept.

Logits exist for one chunk of positions at a time, in fp32; the gradient is made in the forward pass
(as in Liger Kernel and Cut Cross-Entropy, arXiv:2411.09009, section 4), so neither logits nor
probabilities wait for the backward pass.

Legend: N labelled positions, V vocabulary, D width of the model.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK = 256
"""Positions whose logits exist at once: 256 x 49,152 fp32 logits are 50 MB."""


def loss_sum(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Sum of -log softmax(hidden weight^T)[target], in nats.

    Args:
        hidden_ND: (N, D) final hidden states at the labelled positions.
        weight_VD: (V, D) the head; gets a gradient only when it requires one.
        targets_N: (N,) int64 token ids.

    Returns:
        () float32. Zero, with a zero gradient, when N is 0.
    """
    device = hidden_ND.device.type
    dtype = hidden_ND.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        return _LossSum.apply(hidden_ND.to(dtype), weight_VD, targets_N)


class _LossSum(torch.autograd.Function):
    """Loss in the forward pass, and with it d loss/d hidden and, if wanted, d loss/d weight."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        low = weight.to(hidden.dtype)
        need_hidden, need_weight, _ = ctx.needs_input_grad
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        d_weight = torch.zeros(weight.shape, dtype=torch.float32) if need_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        if d_weight is not None:
            d_weight = d_weight.to(hidden.device)
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            logits = (hidden[part] @ low.t()).float()
            lse = torch.logsumexp(logits, -1, keepdim=True)
            target = targets[part, None]
            total += (lse - logits.gather(1, target)).sum()
            if not (need_hidden or need_weight):
                continue
            d_logits = logits.sub_(lse).exp_()
            d_logits.scatter_add_(1, target, torch.full_like(target, -1, dtype=torch.float32))
            d_low = d_logits.to(hidden.dtype)
            if d_hidden is not None:
                torch.mm(d_low, low, out=d_hidden[part])
            if d_weight is not None:
                d_weight += d_low.t() @ hidden[part]
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, d_total: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        d_hidden, d_weight = ctx.saved_tensors
        if d_hidden is not None:
            d_hidden = d_hidden * d_total.to(d_hidden.dtype)
        if d_weight is not None:
            d_weight = (d_weight * d_total).to(ctx.weight_dtype)
        return d_hidden, d_weight, None


@torch.no_grad()
def token_nll(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """-log p(target) at each labelled position, (N,) float32 in nats."""
    parts = [
        -log_probabilities(hidden_ND[start : start + CHUNK], weight_VD)
        .gather(1, targets_N[start : start + CHUNK, None])
        .squeeze(1)
        for start in range(0, len(hidden_ND), CHUNK)
    ]
    return torch.cat(parts) if parts else hidden_ND.new_zeros(0, dtype=torch.float32)


@torch.no_grad()
def log_probabilities(hidden_ND: Tensor, weight_VD: Tensor) -> Tensor:
    """Log softmax(hidden weight^T), (N, V) float32; the caller keeps N small."""
    logits = (hidden_ND @ weight_VD.to(hidden_ND.dtype).t()).float()
    return torch.log_softmax(logits, -1)
