"""The language-model head and its loss, on labelled positions only, logits never kept.

Logits exist for one chunk of positions at a time, in the type of the products, with log-sum-exp in
fp32; the gradient is made in the forward pass, over the logits (as in Liger Kernel and Cut
Cross-Entropy, arXiv:2411.09009, section 4), so neither logits nor probabilities wait for the
backward pass.

Legend: N labelled positions, V vocabulary, D width of the model.
"""

import threading
from typing import Any

import torch
from torch import Tensor

from tunesmith.models.kernels.product import product
from tunesmith.models.kernels.softmax import cross_entropy_
from tunesmith.models.packed import Packed, frozen
from tunesmith.models.weight import Plain

CHUNK = 288
"""Most positions whose logits exist at once: 288 x 49,152 bf16 logits are 28 MB. On two Zen 5 cores
chunks of 130 to 800 positions were within 10 % of each other, fewer were slower."""
LEAST = 256
"""On a GPU, the number of positions is a multiple of this."""
SHARE = 64
"""On a GPU, what a chunk takes is one part in so many of its memory: the fewer chunks, the fewer
times the head is read."""
BYTES_PER_LOGIT = 10
"""At the widest moment of `cross_entropy_`: bf16 logits, an fp32 copy, their log-softmax."""


def losses(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    factors_N: Tensor | None = None,
    smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """A weighted sum of losses whose targets are spread over the vocabulary by `smoothing`.

        l_n = - (1 - smoothing) log p(target_n) - smoothing / V sum_v log p(v)

    Label smoothing: Szegedy et al. 2016 (arXiv:1512.00567, section 7).

    Args:
        hidden_ND: (N, D) final hidden states at the labelled positions.
        weight_VD: (V, D) the head; gets a gradient only when it requires one.
        targets_N: (N,) int64 token ids.
        factors_N: (N,) float32 factor of each loss; None for 1.
        smoothing: From 0 to 1.

    Returns:
        () float32, the sum of factor times loss, zero with a zero gradient when N is 0; and (N,)
        float32, each loss by itself, without gradient.
    """
    return _call(_LossSum, hidden_ND, weight_VD, targets_N, factors_N, smoothing)


class _LossSum(torch.autograd.Function):
    """Loss in the forward pass, and with it d loss/d hidden and, if wanted, d loss/d weight."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        factors: Tensor | None,
        smoothing: float,
    ) -> tuple[Tensor, Tensor]:
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        low = _readable(weight, hidden.dtype)
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        each = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        for part in _chunks(len(hidden), weight):
            logits = _logits(hidden[part], low)
            each[part] = _smoothed_(logits, targets[part], smoothing, need_hidden or need_weight)
            total += each[part].sum() if factors is None else each[part] @ factors[part]
            if d_hidden is not None:
                d_hidden[part] = _scaled(low.times_transposed(logits), factors, part)
            if d_weight is not None:
                d_weight += logits.t() @ _scaled(hidden[part], factors, part)
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.weight_dtype = weight.dtype
        ctx.mark_non_differentiable(each)
        return total, each

    @staticmethod
    def backward(ctx: Any, d_total: Tensor, d_each: None) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight = ctx.saved_tensors
        if d_hidden is not None:
            d_hidden = d_hidden * d_total.to(d_hidden.dtype)
        if d_weight is not None:
            d_weight = (d_weight * d_total).to(ctx.weight_dtype)
        return d_hidden, d_weight, None, None, None


def _smoothed_(logits_NV: Tensor, targets_N: Tensor, smoothing: float, gradient: bool) -> Tensor:
    """`cross_entropy_` with the target spread out: the gradient is p - (1 - s) onehot - s / V."""
    if not smoothing:
        return cross_entropy_(logits_NV, targets_N, gradient)
    places_N1 = targets_N[:, None]
    mean_N = logits_NV.mean(-1, dtype=torch.float32)
    target_N = logits_NV.gather(1, places_N1).squeeze(1).float()
    nll_N = cross_entropy_(logits_NV, targets_N, gradient)
    if gradient:
        logits_NV.sub_(smoothing / logits_NV.shape[1])
        logits_NV.scatter_add_(1, places_N1, torch.full_like(logits_NV[:, :1], smoothing))
    # log-sum-exp is nll + target, and the mean of -log p over the vocabulary that less the mean.
    return nll_N + smoothing * (target_N - mean_N)


def _scaled(x_ND: Tensor, factors_N: Tensor | None, part: slice) -> Tensor:
    return x_ND if factors_N is None else x_ND * factors_N[part, None].to(x_ND.dtype)


def token_nll(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """-log p(target) at each labelled position, (N,) float32 in nats.

    Differentiable, each position with its own factor upstream: what methods that weigh or compare
    log-probabilities are made of. Arguments as for `losses`.
    """
    return _call(_TokenNll, hidden_ND, weight_VD, targets_N)


def _call(
    function: type[torch.autograd.Function],
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    *more: Any,
) -> Any:
    """Run `function` in the autocast type where that is on, and without autocast inside."""
    device, dtype = hidden_ND.device.type, hidden_ND.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        return function.apply(hidden_ND.to(dtype), weight_VD, targets_N, *more)


class _TokenNll(torch.autograd.Function):
    """d nll/d hidden in the forward pass; d nll/d weight, if wanted, from logits made again."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        low = _readable(weight, hidden.dtype)
        nll = hidden.new_empty(len(hidden), dtype=torch.float32)
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for part in _chunks(len(hidden), weight):
            logits = _logits(hidden[part], low)
            nll[part] = cross_entropy_(logits, targets[part], gradient=d_hidden is not None)
            if d_hidden is not None:
                d_hidden[part] = low.times_transposed(logits)
        ctx.save_for_backward(d_hidden, hidden, weight, targets)
        return nll

    @staticmethod
    def backward(ctx: Any, d_nll: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        d_hidden, hidden, weight, targets = ctx.saved_tensors
        factor_N1 = d_nll.to(hidden.dtype)[:, None]
        if d_hidden is not None:
            d_hidden = d_hidden * factor_N1
        if not ctx.needs_input_grad[1]:
            return d_hidden, None, None
        low = _readable(weight, hidden.dtype)
        d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
        for part in _chunks(len(hidden), weight):
            logits = _logits(hidden[part], low)
            cross_entropy_(logits, targets[part], gradient=True)
            d_weight += logits.t() @ (hidden[part] * factor_N1[part])
        return d_hidden, d_weight.to(weight.dtype), None


def log_probs_at(hidden_ND: Tensor, weight_VD: Tensor, ids_NK: Tensor) -> Tensor:
    """Log p of some tokens at each position, (N, K) float32 in nats; differentiable.

    Args:
        hidden_ND: (N, D) final hidden states.
        weight_VD: (V, D) the head; gets a gradient only when it requires one.
        ids_NK: (N, K) int64 token ids, those of one position all different.
    """
    return _call(_LogProbsAt, hidden_ND, weight_VD, ids_NK)


class _LogProbsAt(torch.autograd.Function):
    """Both gradients from logits that are made again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, ids: Tensor) -> Tensor:
        low = _readable(weight, hidden.dtype)
        found = hidden.new_empty(ids.shape, dtype=torch.float32)
        for part in _chunks(len(hidden), weight):
            logits = _logits(hidden[part], low).float()
            found[part] = logits.gather(1, ids[part]) - logits.logsumexp(-1, keepdim=True)
        ctx.save_for_backward(hidden, weight, ids)
        return found

    @staticmethod
    def backward(ctx: Any, d_NK: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden, weight, ids = ctx.saved_tensors
        need_hidden, need_weight, _ = ctx.needs_input_grad
        low = _readable(weight, hidden.dtype)
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        for part in _chunks(len(hidden), weight):
            p_NV = torch.softmax(_logits(hidden[part], low).float(), -1)
            d_logits = p_NV.mul_(-d_NK[part].sum(-1, keepdim=True))
            d_logits = d_logits.scatter_add_(1, ids[part], d_NK[part]).to(hidden.dtype)
            if d_hidden is not None:
                d_hidden[part] = low.times_transposed(d_logits)
            if d_weight is not None:
                d_weight += d_logits.t() @ hidden[part]
        return d_hidden, None if d_weight is None else d_weight.to(weight.dtype), None


class _Room(threading.local):
    """Memory for logits, kept from one call to the next.

    What malloc hands out anew in this size has no pages yet; to get them took a sixth of the time
    of head and loss.
    """

    def __init__(self) -> None:
        self._kept = torch.empty(0)

    def matrix(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """(rows, columns), with whatever was there."""
        if self._kept.dtype is not dtype or self._kept.numel() < rows * columns:
            self._kept = torch.empty(rows * columns, dtype=dtype)
        return self._kept[: rows * columns].view(rows, columns)


_room = _Room()


def _readable(weight_VD: Tensor, dtype: torch.dtype) -> Plain | Packed:
    """What the products read of the head, in their type."""
    return Plain(weight_VD.to(dtype)) if weight_VD.requires_grad else frozen(weight_VD, dtype)


def _logits(hidden_ND: Tensor, weight: Plain | Packed) -> Tensor:
    """(N, V) logits; on a CPU they are overwritten by the next call."""
    if hidden_ND.device.type != "cpu":
        return weight.times(hidden_ND)
    if isinstance(weight, Packed):
        laid = weight.by_inputs
        out = _room.matrix(len(hidden_ND), laid.columns, hidden_ND.dtype)
        return product(hidden_ND, laid, out_MN=out)
    out = _room.matrix(len(hidden_ND), len(weight.weight_OI), hidden_ND.dtype)
    return torch.mm(hidden_ND, weight.weight_OI.t(), out=out)


def _chunks(positions: int, weight_VD: Tensor) -> list[slice]:
    """As few chunks as may be, all of one size but for a rest: small products are slow products."""
    limit = CHUNK
    if weight_VD.is_cuda:
        properties = torch.cuda.get_device_properties(weight_VD.device)
        limit = chunk_of(properties.total_memory, len(weight_VD))
    size = -(-positions // max(-(-positions // limit), 1))
    return [slice(start, start + size) for start in range(0, positions, max(size, 1))]


def chunk_of(memory_bytes: int, vocabulary: int) -> int:
    """Positions whose logits exist at once on a GPU: a multiple of `LEAST`."""
    fitting = memory_bytes // SHARE // (vocabulary * BYTES_PER_LOGIT)
    return max(fitting // LEAST, 1) * LEAST


@torch.no_grad()
def log_probabilities(hidden_ND: Tensor, weight_VD: Tensor) -> Tensor:
    """Log softmax(hidden weight^T), (N, V) float32; the caller keeps N small."""
    logits = _readable(weight_VD, hidden_ND.dtype).times(hidden_ND)
    return torch.log_softmax(logits.float(), -1)
