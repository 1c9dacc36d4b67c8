"""A key-value cache with room to grow, so that a new token does not copy all tokens before it.

`DynamicCache` of transformers lengthens its tensors by concatenation; with 32 rows of 100 tokens
that is two fifths of the time of a token on a CPU.

Legend for shapes: B rows, H key-value heads, T tokens in the cache, D head width.
"""

from typing import Any

from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

SPARE_TOKENS = 64
"""Room made at a time: one copy in so many tokens, and little memory that is never used."""


class GrowingLayer(DynamicLayer):
    """`keys` and `values` (B, H, T, D) are the beginnings of longer tensors with spare room."""

    def __init__(self) -> None:
        super().__init__()
        self._stores: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add the states of new tokens; returns all keys and values so far."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._stores is None or end > self._stores[0].shape[-2]:
            self._grow((key_states, value_states), end + SPARE_TOKENS)
        for store, new in zip(self._stores, (key_states, value_states), strict=True):
            store[:, :, start:end] = new
        self._show(end)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the rows `beam_idx`, in that order."""
        if self._stores is not None:
            length = self.get_seq_length()
            self._stores = tuple(store.index_select(0, beam_idx) for store in self._stores)
            self._show(length)

    def _grow(self, like: tuple[Tensor, Tensor], room: int) -> None:
        """Make room for `room` tokens in all, and carry over what there is."""
        stores = tuple(new.new_empty((*new.shape[:-2], room, new.shape[-1])) for new in like)
        if self._stores is not None:
            for store, old in zip(stores, (self.keys, self.values), strict=True):
                store[:, :, : old.shape[-2]] = old
        self._stores = stores
        self.dtype, self.device, self.is_initialized = like[0].dtype, like[0].device, True

    def _show(self, length: int) -> None:
        self.keys, self.values = (store[:, :, :length] for store in self._stores)


def growing_cache(config: PretrainedConfig) -> DynamicCache:
    """The cache that transformers would make for `config`, full-attention layers with spare room.

    Layers of other kinds (sliding windows, linear attention) do not grow, and stay as they are.
    """
    cache = DynamicCache(config=config)
    cache.layers = [
        GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache
