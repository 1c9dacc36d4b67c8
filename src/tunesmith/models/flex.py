"""Attention over packs on a GPU where flash attention does not serve: `flex_attention`, compiled.

That is fp32, heads wider than 256, or a torch whose `varlen_attn` cannot share key heads. The mask
goes in as a function of two places, and blocks in which nothing is seen are left out.

Legend: T tokens of a pack, P the same filled up, H query heads, G key heads, D head width.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from tunesmith.models.segments import Segment
from tunesmith.models.varlen import sent

_BLOCK = 128
"""Tokens of a block of the mask; its backward pass wants whole ones."""


def serves(device: torch.device, width: int) -> bool:
    """Whether it can be compiled here: CUDA from Ampere on, with Triton, heads of 16 and more."""
    if device.type != "cuda" or width < 16 or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def attend(
    q_THD: Tensor,
    k_TGD: Tensor,
    v_TGD: Tensor,
    parts: tuple[Segment, ...],
    scale: float,
    window: int | None,
) -> Tensor:
    """Causal attention within each segment of a pack, (T, H, D); arguments as in `varlen`."""
    lengths = tuple(part.num_own for part in parts)
    tokens, rest = len(q_THD), -len(q_THD) % _BLOCK
    # What fills up the last block is one more example, which nobody looks at.
    q, k, v = (F.pad(x, (0, 0, 0, 0, 0, rest)).transpose(0, 1)[None] for x in (q_THD, k_TGD, v_TGD))
    mask = _mask((*lengths, rest) if rest else lengths, window, q_THD.device)
    function = _function(q_THD.device.type)
    out_HPD = function(q, k, v, block_mask=mask, scale=scale, enable_gqa=True)[0]
    return out_HPD[:, :tokens].transpose(0, 1)


@lru_cache(maxsize=8)
def _mask(lengths: tuple[int, ...], window: int | None, device: torch.device) -> BlockMask:
    """Made once per batch: all layers with one window share it."""
    with torch.inference_mode(False):
        ids = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        example_P = sent(ids, device)

        def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            near = (key <= query) & (example_P[query] == example_P[key])
            return near if window is None else near & (query - key < window)

        total = sum(lengths)
        return create_block_mask(seen, None, None, total, total, device, BLOCK_SIZE=_BLOCK)


@cache
def _function(kind: str) -> Callable[..., Tensor]:
    """Compiled on a GPU; elsewhere it is made of plain operators, for tests of the mask."""
    return torch.compile(flex_attention, dynamic=True) if kind == "cuda" else flex_attention
