"""Attention of the newest token of each row to what the row has in a cache.

SDPA's attention for CPUs takes twice as long for a single query (measured on two Zen 5 cores, 32
rows of 70 to 500 tokens), and all rows as long as the longest.

Legend: N rows, P places (at least N), G key heads, R query heads per key head, C capacity and W
longest length in tokens, D width of a head.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tunesmith.models.kernels import build


class Lengths:
    """Tokens of each row, and the masks that follow from them where attention needs one.

    Args:
        lengths: Tokens of each row, the newest included; at least 1 each.
        device: Of the cache.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths_N = torch.tensor(lengths, dtype=torch.int64, device=device)
        self.longest = max(lengths, default=0)
        self._shortest = min(lengths, default=0)
        self._masks: dict[tuple[int | None, torch.dtype], Tensor | None] = {}

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """(N, 1, 1, W), 0 where the newest token of a row looks and -inf elsewhere.

        None where every row looks at all W tokens.
        """
        if (window, dtype) not in self._masks:
            self._masks[window, dtype] = self._mask(window, dtype)
        return self._masks[window, dtype]

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        if self._shortest == self.longest and (window is None or window >= self.longest):
            return None
        columns_W = torch.arange(self.longest, device=self.lengths_N.device)
        back_NW = self.lengths_N[:, None] - 1 - columns_W
        hidden_NW = back_NW < 0
        if window is not None:
            hidden_NW |= back_NW >= window
        mask_NW = torch.zeros(hidden_NW.shape, dtype=dtype, device=columns_W.device)
        return mask_NW.masked_fill_(hidden_NW, float("-inf"))[:, None, None]


def attend_cached(
    q_NGRD: Tensor,
    keys_PGCD: Tensor,
    values_PGCD: Tensor,
    lengths: Lengths,
    factor: float,
    window: int | None = None,
) -> Tensor:
    """softmax(factor q k^T) v of the newest token of each row over the tokens of the row.

    Args:
        q_NGRD: (N, G, R, D) queries.
        keys_PGCD: (P, G, C, D), of which row n has place n.
        values_PGCD: (P, G, C, D).
        lengths: Of the N rows, none longer than C.
        factor: On the scores.
        window: How many tokens back the newest sees, itself included; None sees all.

    Returns:
        (N, G, R, D) in the type of the queries.
    """
    rows, groups, each, width = q_NGRD.shape
    tensors = (q_NGRD, keys_PGCD, values_PGCD)
    if not build.serves(*tensors):
        seen = (x[:rows, :, : lengths.longest] for x in (keys_PGCD, values_PGCD))
        mask = lengths.mask(window, q_NGRD.dtype)
        return F.scaled_dot_product_attention(q_NGRD, *seen, mask, scale=factor)
    out_NGRD = torch.empty_like(q_NGRD)
    scores = q_NGRD.new_empty(rows, groups, each, lengths.longest, dtype=torch.float32)
    sizes = (rows, groups, each, keys_PGCD.shape[2], width, lengths.longest)
    sees = lengths.longest if window is None else window
    pointers = (*tensors, lengths.lengths_N, scores, out_NGRD)
    build.call("attend_cached", q_NGRD.dtype, *pointers, *sizes, sees, float(factor))
    return out_NGRD
