"""How far a model is from its base at the trained tokens, differentiable.

    KL(base || now) = sum over the vocabulary of p_base (log p_base - log p_now)

The direction is that of the forgetting budget, and of distillation from the base as in Learning
without Forgetting (arXiv:1606.09282, eq. 2 and 3, at temperature 1). Logits exist for one chunk of
tokens at a time, and again in the backward pass.

Legend: N trained tokens, V vocabulary, D width of the model.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 256
"""Tokens whose distributions exist at once: 256 x 49,152 in fp32 are 50 MB."""


def token_kl(now_NX: Tensor, base_NX: Tensor, head_VD: Tensor | None) -> Tensor:
    """KL(base || now) at each token, (N,) float32 in nats.

    Args:
        now_NX: (N, D) states of the model, or (N, V) its log-probabilities.
        base_NX: The same of the base; no gradient flows there.
        head_VD: Makes logits of states, of both; None where log-probabilities were given.
    """
    parts = [
        checkpoint(_kl, now, base, head_VD, use_reentrant=False)
        for now, base in zip(now_NX.split(CHUNK), base_NX.split(CHUNK), strict=True)
    ]
    return torch.cat(parts) if parts else now_NX.new_zeros(0, dtype=torch.float32)


def _kl(now_NX: Tensor, base_NX: Tensor, head_VD: Tensor | None) -> Tensor:
    now_NV, base_NV = _log_probs(now_NX, head_VD), _log_probs(base_NX.detach(), head_VD).detach()
    return F.kl_div(now_NV, base_NV, reduction="none", log_target=True).sum(-1)


def _log_probs(states_NX: Tensor, head_VD: Tensor | None) -> Tensor:
    if head_VD is None:
        return states_NX.float()
    with torch.autocast(states_NX.device.type, enabled=False):
        logits = F.linear(states_NX, head_VD.to(states_NX.dtype))
    return torch.log_softmax(logits.float(), -1)
