"""Attention over packs on a GPU by flash attention: all examples in one call, no mask, no padding.

`torch.nn.attention.varlen.varlen_attn` is told where examples begin. Its arguments changed with
every version (2.10: is_causal; 2.11: scale, window_size; 2.12: enable_gqa), so it is taken by what
its signature offers and not by the version of torch.

Legend: T tokens of a pack, H query heads, G key heads, D head width, E examples.
"""

import inspect
from collections.abc import Callable
from functools import cache, lru_cache
from importlib import import_module
from itertools import accumulate

import torch
from torch import Tensor

from tunesmith.models.segments import Segment

_NEEDED = {"scale", "window_size", "enable_gqa"}
_WIDEST = 256
"""Widest head that flash attention takes."""


def serves(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Whether it can attend here: CUDA from Ampere on, 16-bit numbers, heads of up to 256.

    Args:
        device: Of queries, keys and values.
        dtype: Of the same.
        width: D.
    """
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return False
    if width > _WIDEST or width % 8 or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    return _function() is not None


def attend(
    q_THD: Tensor,
    k_TGD: Tensor,
    v_TGD: Tensor,
    parts: tuple[Segment, ...],
    scale: float,
    window: int | None,
) -> Tensor:
    """Causal attention within each segment of a pack, (T, H, D).

    Args:
        q_THD: Queries; heads may lie apart in memory, the numbers of one head may not.
        k_TGD: Keys, likewise.
        v_TGD: Values, likewise.
        parts: The segments; none continues another one.
        scale: Factor on q k^T.
        window: How many tokens back a token sees, itself included; None sees all.
    """
    lengths = tuple(part.num_own for part in parts)
    bounds_E = boundaries(lengths, q_THD.device)
    longest = max(lengths)
    # (-1, 0) is plain causal attention to it, which has a faster kernel than any window.
    sight = (-1, 0) if window is None or window >= longest else (window - 1, 0)
    return _function()(
        q_THD,
        k_TGD,
        v_TGD,
        *(bounds_E, bounds_E, longest, longest),
        scale=scale,
        window_size=sight,
        enable_gqa=True,
    )


@lru_cache(maxsize=8)
def boundaries(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """(E + 1,) int32, where each example begins and the last one ends.

    Kept, so that the layers of a model share one copy and the host never waits for the device.
    """
    # A tensor made under inference_mode could not be saved for a backward pass later on.
    with torch.inference_mode(False):
        return sent(torch.tensor([0, *accumulate(lengths)], dtype=torch.int32), device)


def sent(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on `device`; to a GPU from pinned memory, so that nobody waits."""
    if device.type == "cuda":
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


@cache
def _function() -> Callable[..., Tensor] | None:
    """Torch's function, if this torch has one that takes what we pass."""
    try:
        function = import_module("torch.nn.attention.varlen").varlen_attn
    except (ImportError, AttributeError):
        return None
    return function if takes_all(function) else None


def takes_all(function: Callable[..., Tensor]) -> bool:
    """Whether a version of `varlen_attn` knows scale, windows and shared key heads."""
    return set(inspect.signature(function).parameters) >= _NEEDED
