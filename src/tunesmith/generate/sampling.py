"""How the next token is drawn: a pure function of logits and one uniform number per row.

A row's numbers come from (seed, prompt, answer) alone. So what is drawn does not depend on which
rows happen to share a batch, nor on the order in which they end.

Legend: N rows, V vocabulary, K candidates.
"""

import numpy as np
import torch
from numpy.random import PCG64, Generator
from torch import Tensor

from tunesmith.generate.options import Sampling

CANDIDATES = 512
"""The nucleus is first sought among as many tokens: sorting all of them takes longer than the
rest of a step of a small model."""


def uniforms(seed: int, stream: tuple[int, int], count: int) -> np.ndarray:
    """(count,) float64 in [0, 1): the numbers that an answer is drawn with.

    Args:
        seed: Of the call, 0 or more.
        stream: Which prompt, and which of its answers.
        count: Most tokens of the answer.
    """
    return Generator(PCG64([seed, *stream])).random(count)


def draw(logits_NV: Tensor, uniforms_N: Tensor | None, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Choose a token for each row.

    Args:
        logits_NV: (N, V), any floating type.
        uniforms_N: (N,) float64 in [0, 1); None only for greedy.
        sampling: Temperature and nucleus.

    Returns:
        (N,) int64 tokens, and (N,) float64 log-probabilities, in nats, of what the model gives
        them at this temperature, 1 for greedy, before the nucleus is cut out.
    """
    scaled_NV = _scaled(logits_NV, sampling.temperature or 1.0)
    weights_NV = scaled_NV.exp()
    totals_N = weights_NV.sum(-1, dtype=torch.float64)
    if uniforms_N is None or sampling.temperature == 0.0:
        tokens_N = scaled_NV.argmax(-1)
    else:
        edges_NV = nucleus(weights_NV, sampling.top_p).cumsum(-1, dtype=torch.float64)
        # To the right of its number, so that a token of weight 0 is never met.
        targets_N1 = uniforms_N[:, None] * edges_NV[:, -1:]
        tokens_N = torch.searchsorted(edges_NV, targets_N1, right=True)[:, 0]
    chosen_N = scaled_NV.gather(-1, tokens_N[:, None])[:, 0]
    return tokens_N, chosen_N.double() - totals_N.log()


def nucleus(weights_NV: Tensor, top_p: float) -> Tensor:
    """Zero for every token outside the smallest set that reaches `top_p` (arXiv:1904.09751, 3.1).

    Args:
        weights_NV: (N, V) probabilities, or any multiple of them in each row.
        top_p: In (0, 1]. The most probable token always stays, and so does every token that is
            as probable as the last one of the set.

    Returns:
        (N, V) weights, not normalised anew.
    """
    if top_p >= 1.0:
        return weights_NV
    wanted_N1 = top_p * weights_NV.sum(-1, keepdim=True, dtype=torch.float64)
    vocabulary = weights_NV.shape[-1]
    for count in (min(CANDIDATES, vocabulary), vocabulary):
        best_NK = weights_NV.topk(count, dim=-1).values
        reached_NK = best_NK.cumsum(-1, dtype=torch.float64)
        if count == vocabulary or bool((reached_NK[:, -1:] >= wanted_N1).all()):
            break
    size_N1 = (reached_NK < wanted_N1).sum(-1, keepdim=True).clamp_(max=count - 1)
    return torch.where(weights_NV >= best_NK.gather(-1, size_N1), weights_NV, 0.0)


def _scaled(logits_NV: Tensor, temperature: float) -> Tensor:
    """Logits seen from the best one, so that exp cannot overflow, by temperature; float32."""
    below_NV = logits_NV.float()
    below_NV = below_NV - below_NV.amax(-1, keepdim=True)
    # Below the smallest float32 it would be 0, and 0/0 for the best token is no number.
    return below_NV.div_(max(temperature, torch.finfo(torch.float32).tiny))
