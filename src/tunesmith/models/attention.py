"""Attention over packs: examples end to end in one sequence, blind to each other, no padding.

Registered with transformers under `PACKED`, so that any model that routes attention through
transformers' attention interface can use it. How the pack is laid out reaches it as the keywords
`lengths` and `prefixes` of the model's forward call (`segments`). On a CPU it is made of matrix
products (`block_attention`), elsewhere of what serves there (`ways`).

Legend: H query heads, G key/value heads, T tokens of the pack, D head width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tunesmith.errors import ModelError
from tunesmith.models import ways
from tunesmith.models.block_attention import attend
from tunesmith.models.given import Given
from tunesmith.models.segments import Segment, segments
from tunesmith.models.ways import Place

PACKED = "tunesmith_packed"
"""Name under which transformers knows this attention."""
WATCHED = "tunesmith_watched"
"""The same while `watched` looks on."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    lengths: tuple[int, ...] | None = None,
    prefixes: tuple[int | None, ...] | None = None,
    given: Given | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each segment of a pack, and to the prefix that it continues.

    Args:
        module: The attention module that calls; only named in errors.
        query: (1, H, T, D).
        key: (1, G, T, D).
        value: (1, G, T, D).
        attention_mask: Must be None: a pack has no padding.
        lengths: Tokens of each segment; they add up to T.
        prefixes: The number of the segment that each continues; None for those that begin an
            example, and altogether if all do.
        given: Keys and values that lie before each example; None for none.
        scaling: Factor on q k^T; None is 1/sqrt(D).
        dropout: Probability of dropping an attention weight.
        sliding_window: How many tokens back a token sees, itself included; None sees all.
        **kwargs: What the model passes besides; see Raises.

    Returns:
        (1, T, H, D) and None in place of the weights.

    Raises:
        ModelError: The model wants soft-capped logits or attention sinks, which SDPA has not, or
            does not hand `lengths` down.
    """
    faults = [
        f"attention with {name}" for name in ("softcap", "s_aux") if kwargs.get(name) is not None
    ]
    if lengths is None:
        faults.append("a model that does not hand the lengths of examples down to its attention")
    if faults:
        raise ModelError(
            type(module).__name__,
            got=", ".join(faults),
            expected="plain causal attention when examples are packed",
            hint="set data.packing: false",
        )
    query, key = query.to(value.dtype), key.to(value.dtype)
    if given is not None:
        query, key, value = given.among(module.layer_idx, query, key, value, dim=2)
        lengths = given.lengths
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    parts = segments(lengths, prefixes)
    if query.device.type == "cpu" and dropout == 0.0:
        seen_1THD = _by_blocks(query, key, value, parts, scale, sliding_window)
    else:
        q_THD, k_TGD, v_TGD = (x[0].transpose(0, 1) for x in (query, key, value))
        here = Place(value.device, value.dtype, value.shape[-1])
        attend_here = ways.choose(here, dropout, shared=prefixes is not None)
        seen_1THD = attend_here(q_THD, k_TGD, v_TGD, parts, scale, sliding_window)[None]
    return (seen_1THD if given is None else given.own(seen_1THD, dim=1)), None


def _by_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    parts: tuple[Segment, ...],
    scale: float,
    window: int | None,
) -> Tensor:
    """(1, T, H, D)."""
    _, heads, tokens, width = query.shape
    groups = key.shape[1]
    q_GTRD = query[0].reshape(groups, heads // groups, tokens, width).transpose(1, 2).contiguous()
    out_TC = attend(q_GTRD, key[0].contiguous(), value[0].contiguous(), parts, scale, window)
    return out_TC.view(1, tokens, heads, width)


@contextmanager
def attention(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Let `model` attend through the implementation `name` for the time of the block."""
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before


@dataclass(frozen=True, slots=True)
class Sight:
    """How a module asks to attend.

    Attributes:
        scale: Factor on q k^T.
        window: How many tokens back a token sees, itself included; None sees all.
    """

    scale: float
    window: int | None


@contextmanager
def watched(model: PreTrainedModel, asked: dict[nn.Module, Sight]) -> Iterator[None]:
    """Packed attention that writes into `asked` how each module asked for it."""

    def watch(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any
    ) -> tuple[Tensor, None]:
        scaling = kwargs.get("scaling")
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        asked[module] = Sight(scale, kwargs.get("sliding_window"))
        return packed_attention(module, query, key, value, mask, **kwargs)

    ALL_ATTENTION_FUNCTIONS.register(WATCHED, watch)
    with attention(model, WATCHED):
        yield


def register() -> None:
    """Make `PACKED` known to transformers; doing it twice changes nothing."""
    ALL_ATTENTION_FUNCTIONS.register(PACKED, packed_attention)
