"""Softmax in place: of attention scores, and of logits with their loss and its gradient.

Legend: B batch, M rows (queries), N keys, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tunesmith.models.kernels import build


def attend_(scores_BMN: Tensor, first: int, each: int, window: int, factor: float) -> Tensor:
    """softmax(factor scores) over the keys that a query sees, 0 elsewhere; overwrites the scores.

    Row m is query `first + m // each`; it sees the keys up to itself, at most `window` of them.

    Args:
        scores_BMN: (B, M, N), contiguous.
        first: The query of row 0, counted in keys.
        each: Rows that are the same query (heads that share a key).
        window: Most keys that a query sees.
        factor: On the scores.
    """
    if build.serves(scores_BMN):
        sizes = (*scores_BMN.shape, first, each, window, float(factor))
        build.call("attend", scores_BMN.dtype, scores_BMN, *sizes)
        return scores_BMN
    hidden_MN = _hidden(scores_BMN, first, each, window)
    wide_BMN = _wide(scores_BMN).mul(factor).masked_fill_(hidden_MN, float("-inf"))
    return scores_BMN.copy_(torch.softmax(wide_BMN, -1))


def attend_backward_(
    p_BMN: Tensor, d_p_BMN: Tensor, first: int, each: int, window: int, factor: float
) -> Tensor:
    """Gradient of the scores, factor p (dp - sum(dp p)); overwrites `d_p_BMN`."""
    if build.serves(p_BMN, d_p_BMN):
        sizes = (*p_BMN.shape, first, each, window, float(factor))
        build.call("attend_backward", p_BMN.dtype, p_BMN, d_p_BMN, *sizes)
        return d_p_BMN
    p_wide, d_wide = _wide(p_BMN), _wide(d_p_BMN)
    along_BM1 = (p_wide * d_wide).sum(-1, keepdim=True)
    return d_p_BMN.copy_(p_wide * (d_wide - along_BM1) * factor)


def cross_entropy_(logits_MV: Tensor, targets_M: Tensor, gradient: bool) -> Tensor:
    """-log softmax(logits)[target] of each row, (M,) float32; log-sum-exp in fp32.

    With `gradient`, softmax - onehot(target), the gradient of the sum, overwrites the logits.
    """
    if build.serves(logits_MV) and targets_M.is_contiguous():
        nll_M = logits_MV.new_empty(len(logits_MV), dtype=torch.float32)
        sizes = (*logits_MV.shape, int(gradient))
        build.call("cross_entropy", logits_MV.dtype, logits_MV, targets_M, nll_M, *sizes)
        return nll_M
    log_p_MV = F.log_softmax(_wide(logits_MV), -1)
    nll_M = -log_p_MV.gather(1, targets_M[:, None]).squeeze(1).float()
    if gradient:
        d_MV = log_p_MV.exp_()
        d_MV.scatter_add_(1, targets_M[:, None], torch.full_like(d_MV[:, :1], -1.0))
        logits_MV.copy_(d_MV)
    return nll_M


def _wide(x: Tensor) -> Tensor:
    """At least fp32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _hidden(scores_BMN: Tensor, first: int, each: int, window: int) -> Tensor:
    """(M, N) bool, True where a query does not see a key."""
    _, rows, keys = scores_BMN.shape
    query_M1 = first + torch.arange(rows, device=scores_BMN.device)[:, None] // each
    back_MN = query_M1 - torch.arange(keys, device=scores_BMN.device)[None, :]
    return (back_MN < 0) | (back_MN >= window)
