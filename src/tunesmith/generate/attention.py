"""Attention of one generation step: new prompts end to end, and one token of each row under way.

Registered with transformers under `GENERATING`. A step is one sequence without padding, so every
layer but attention treats prompts and single tokens alike, and so do all models that route
attention through transformers' interface. Here the sequence is taken apart again: a prompt attends
to itself, a single token to what its row has in the cache.

Legend: N rows under way, H query heads, G key/value heads, R = H / G, T tokens of the step, D head
width.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tunesmith.generate.cache import Cache, LayerCache
from tunesmith.models.attention import Sight, packed_attention
from tunesmith.models.kernels.cached import Lengths, attend_cached

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
        prompts: Tokens of each new prompt, behind the prefix that all rows share.
        copies: Rows that begin with each prompt; the prefix itself is a prompt that none does.
        device: Of the model.
        windows: Layer -> the window that it asked for.
    """

    cache: Cache
    num_rows: int
    prompts: tuple[int, ...]
    copies: tuple[int, ...]
    device: torch.device
    windows: dict[int, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lengths = Lengths(self.cache.lengths[: self.num_rows], self.device)
        places_N = torch.arange(self.num_rows, device=self.device)
        self.newest = (places_N, self.lengths.lengths_N - 1)


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
    if key.shape != value.shape:
        raise OtherAttention(f"{type(module).__name__}: values of another width than keys")
    query, key = query.to(value.dtype), key.to(value.dtype)
    sight = Sight(query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window)
    step.windows[module.layer_idx] = sliding_window
    layer = step.cache.layer(module.layer_idx, key[0], value[0])
    n, parts = step.num_rows, []
    if n:
        newest = (x[0, :, :n].transpose(0, 1) for x in (query, key, value))
        parts.append(_attend_newest(layer, step, *newest, sight))
    if step.prompts:
        rest = (query[:, :, n:], key[:, :, n:], value[:, :, n:])
        parts.append(_attend_prompts(module, layer, step, rest, sight))
    return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)), None


def _attend_newest(
    layer: LayerCache, step: Step, q_NHD: Tensor, k_NGD: Tensor, v_NGD: Tensor, sight: Sight
) -> Tensor:
    """One token of each row; (1, N, H, D)."""
    layer.write_newest(step.newest, k_NGD, v_NGD)
    rows, heads, width = q_NHD.shape
    groups = k_NGD.shape[1]
    # Query heads that share a key head become its rows: each key is read once.
    q_NGRD = q_NHD.reshape(rows, groups, heads // groups, width).contiguous()
    cached = (layer.keys_PGCD, layer.values_PGCD)
    seen = attend_cached(q_NGRD, *cached, step.lengths, sight.scale, sight.window)
    return seen.view(1, rows, heads, width)


def _attend_prompts(
    module: nn.Module,
    layer: LayerCache,
    step: Step,
    projected: tuple[Tensor, Tensor, Tensor],
    sight: Sight,
) -> Tensor:
    """The new prompts, each behind the prefix; (1, T, H, D)."""
    query, key, value = projected
    _write_prompts(layer, step, key[0], value[0])
    lengths, prefixes, shared = step.prompts, None, layer.prefix[0].shape[1]
    if shared:
        lengths, prefixes = (shared, *lengths), (None, *[0] * len(lengths))
        before = zip(layer.prefix, (key, value), strict=True)
        key, value = (torch.cat([first[None], own], 2) for first, own in before)
        # The prefix asks nothing any more: what its queries get is thrown away.
        query = F.pad(query, (0, 0, shared, 0))
    seen, _ = packed_attention(
        module,
        *(query, key, value, None),
        lengths=lengths,
        prefixes=prefixes,
        scaling=sight.scale,
        sliding_window=sight.window,
    )
    if step.copies == (0,):
        layer.prefix = (key[0].clone(), value[0].clone())
    return seen[:, shared:]


def _write_prompts(layer: LayerCache, step: Step, key_GTD: Tensor, value_GTD: Tensor) -> None:
    place = step.num_rows
    parts = zip(key_GTD.split(step.prompts, 1), value_GTD.split(step.prompts, 1), strict=True)
    for (k_GTD, v_GTD), copies in zip(parts, step.copies, strict=True):
        if copies:
            layer.write_prompt(place, copies, k_GTD, v_GTD)
        place += copies


def register() -> None:
    """Make `GENERATING` known to transformers; doing it twice changes nothing."""
    ALL_ATTENTION_FUNCTIONS.register(GENERATING, generating_attention)
