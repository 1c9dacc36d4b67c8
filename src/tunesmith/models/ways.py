"""Which way attention over packs takes away from the CPU.

Tried in this order:

    varlen    flash attention over the whole pack
    flex      compiled attention with a mask
    segments  SDPA, one segment after the other: any device; the only way with dropout, or where
              answers share a prefix

Legend: T tokens of a pack, H query heads, G key heads, D head width, M tokens of one segment, N
tokens that it sees.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from tunesmith.models import flex, varlen
from tunesmith.models.segments import Segment

Way = Callable[[Tensor, Tensor, Tensor, tuple[Segment, ...], float, int | None], Tensor]
"""q (T, H, D), k and v (T, G, D), segments, scale, window -> (T, H, D); see `varlen.attend`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where queries, keys and values are, and what they are made of.

    Attributes:
        device: Of all three.
        dtype: Of all three.
        width: D.
    """

    device: torch.device
    dtype: torch.dtype
    width: int


def choose(place: Place, dropout: float = 0.0, shared: bool = False) -> Way:
    """The fastest way that serves.

    Args:
        place: Of queries, keys and values.
        dropout: Probability of dropping an attention weight.
        shared: Whether any segment continues another one.
    """
    if dropout > 0.0 or shared:
        return partial(by_segments, dropout=dropout)
    if varlen.serves(place.device, place.dtype, place.width):
        return varlen.attend
    return flex.attend if flex.serves(place.device, place.width) else by_segments


def by_segments(
    q_THD: Tensor,
    k_TGD: Tensor,
    v_TGD: Tensor,
    parts: tuple[Segment, ...],
    scale: float,
    window: int | None,
    *,
    dropout: float = 0.0,
) -> Tensor:
    """SDPA for each segment; arguments as in `varlen.attend`."""
    answers = []
    for part in parts:
        q, k, v = q_THD[part.start : part.stop], _seen(k_TGD, part), _seen(v_TGD, part)
        mask = _mask(part, window, q.device)
        heads = (x.transpose(0, 1)[None] for x in (q, k, v))
        out_1HMD = F.scaled_dot_product_attention(
            *heads, mask, dropout, is_causal=mask is None, scale=scale, enable_gqa=True
        )
        answers.append(out_1HMD[0].transpose(0, 1))
    return torch.cat(answers)


def _seen(x_TGD: Tensor, part: Segment) -> Tensor:
    """(N, G, D) keys or values that a segment sees: those of its prefix, and its own."""
    own = x_TGD[part.start : part.stop]
    return torch.cat([x_TGD[part.shared : part.end], own]) if part.num_shared else own


def _mask(part: Segment, window: int | None, device: torch.device) -> Tensor | None:
    """(M, N) bool, True where a query may see a key: not later, and fewer than `window` back.

    None where that is no more than causal, for which SDPA needs no mask.
    """
    num_keys = part.num_shared + part.num_own
    window = num_keys if window is None else window
    if not part.num_shared and num_keys <= window:
        return None
    key_N = torch.arange(num_keys, device=device)
    back_MN = key_N[part.num_shared :, None] - key_N[None, :]
    return (back_MN >= 0) & (back_MN < window)
