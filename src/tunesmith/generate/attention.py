"""Attention of one generation step: new prompts end to end, and one token of each row under way.

Registered with transformers under `GENERATING`. A step is one sequence without padding, so every
layer but attention treats prompts and single tokens alike, and so do all models that route
attention through transformers' interface. Here the sequence is taken apart again: a prompt attends
to itself, a single token to what its row has in the cache.

Legend: N rows under way, H query heads, G key/value heads, R = H / G, W tokens of the longest row,
T tokens of the step, D head width.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tunesmith.generate.cache import Cache
from tunesmith.models.attention import packed_attention

GENERATING = "tunesmith_generating"
"""Name under which transformers knows this attention."""

WITHOUT_EFFECT = frozenset(
    ("is_causal", "output_attentions", "output_hidden_states", "position_ids", "use_cache")
)
"""What models pass along that does not change what a token attends to in a causal model."""


class OtherAttention(Exception):
    """A layer wants attention of a kind that is not computed here."""


@dataclass
class Step:
    """What attention has to know of a step.

    Attributes:
        cache: Of the rows; its lengths count the tokens of this step already.
        num_rows: Rows that were under way before the step, each with one token in it.
        prompts: Tokens of each new prompt.
        copies: Rows that begin with each prompt.
    """

    cache: Cache
    num_rows: int
    prompts: tuple[int, ...]
    copies: tuple[int, ...]
    device: torch.device
    windows: dict[int, int | None] = field(default_factory=dict)
    """Layer -> the window that it asked for."""

    def __post_init__(self) -> None:
        lengths = self.cache.lengths[: self.num_rows]
        self.width = max(lengths, default=0)
        columns_N = torch.tensor(lengths, dtype=torch.int64, device=self.device) - 1
        self.at_N = (torch.arange(self.num_rows, device=self.device), columns_N)
        self._masks: dict[Any, Tensor | None] = {}

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """(N, 1, 1, W), 0 where a row's token may look and -inf elsewhere; None: everywhere."""
        if (window, dtype) not in self._masks:
            self._masks[window, dtype] = self._mask(window, dtype)
        return self._masks[window, dtype]

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        columns_W = torch.arange(self.width, device=self.device)
        back_NW = self.at_N[1][:, None] - columns_W
        hidden_NW = back_NW < 0
        if window is not None:
            hidden_NW |= back_NW >= window
        if not hidden_NW.any():
            return None
        mask_NW = torch.zeros(hidden_NW.shape, dtype=dtype, device=self.device)
        return mask_NW.masked_fill_(hidden_NW, float("-inf"))[:, None, None]


def generating_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    step: Step,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Write the keys and values of the step into the cache, and attend.

    Args:
        module: The attention module that calls; `layer_idx` tells its layer.
        query: (1, H, T, D): the rows under way first, then the prompts.
        key: (1, G, T, D).
        value: (1, G, T, D).
        attention_mask: Must be None.
        step: What the sequence is made of.
        scaling: Factor on q k^T; None is 1/sqrt(D).
        dropout: Must be 0.
        sliding_window: How many tokens back a token sees, itself included; None sees all.
        **kwargs: What the model passes besides.

    Returns:
        (1, T, H, D) and None in place of the weights.

    Raises:
        OtherAttention: The model asks for more than causal attention, such as soft-capped logits.
    """
    more = [k for k, v in kwargs.items() if v is not None and k not in WITHOUT_EFFECT]
    if more or attention_mask is not None or dropout or kwargs.get("is_causal") is False:
        raise OtherAttention(f"{type(module).__name__}: {', '.join(more) or 'a mask or dropout'}")
    query, key = query.to(value.dtype), key.to(value.dtype)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    step.windows[module.layer_idx] = sliding_window
    layer = step.cache.layer(module.layer_idx, key[0], value[0])
    n = step.num_rows
    parts = []
    if n:
        q_NHD, k_NGD, v_NGD = (x[0, :, :n].transpose(0, 1) for x in (query, key, value))
        layer.write_next(step.at_N, k_NGD, v_NGD)
        k_NGWD, v_NGWD = (c[:n, :, : step.width] for c in (layer.keys_PGCD, layer.values_PGCD))
        mask = step.mask(sliding_window, value.dtype)
        parts.append(_attend_next(q_NHD, k_NGWD, v_NGWD, mask, scale)[None])
    if step.prompts:
        q, k, v = (x[:, :, n:] for x in (query, key, value))
        place = n
        for k_GTD, v_GTD, copies in zip(
            k[0].split(step.prompts, 1), v[0].split(step.prompts, 1), step.copies, strict=True
        ):
            layer.write_prompt(place, copies, k_GTD, v_GTD)
            place += copies
        packed, _ = packed_attention(
            module,
            *(q, k, v, None),
            lengths=step.prompts,
            scaling=scale,
            sliding_window=sliding_window,
        )
        parts.append(packed)
    return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)), None


def _attend_next(
    q_NHD: Tensor, k_NGWD: Tensor, v_NGWD: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """One token of each row; (N, H, D)."""
    rows, heads, width = q_NHD.shape
    groups = k_NGWD.shape[1]
    # Query heads that share a key head become its rows: each key is read once.
    q_NGRD = q_NHD.reshape(rows, groups, heads // groups, width)
    seen = F.scaled_dot_product_attention(q_NGRD, k_NGWD, v_NGWD, mask, scale=scale)
    return seen.reshape(rows, heads, -1)


def register() -> None:
    """Make `GENERATING` known to transformers; doing it twice changes nothing."""
    ALL_ATTENTION_FUNCTIONS.register(GENERATING, generating_attention)
