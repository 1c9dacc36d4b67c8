"""Keys and values of the rows under way, in places that are laid out once and filled again.

A row keeps its place from its prompt to its last token. When it ends, the row in the last place
moves into the gap, so that the rows under way always fill the first places and attention runs over
them alone.

Legend: P places, N rows under way, G key/value heads, C capacity in tokens, D head width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

SMALL = 256
"""Tokens for which there is room from the start."""


class LayerCache:
    """Places of one layer.

    Args:
        places: How many rows fit.
        key: Any keys of this layer, (..., D); heads, width, dtype and device are taken from them.
        value: Any values of it; their width may differ.
    """

    def __init__(self, places: int, key_GTD: Tensor, value_GTD: Tensor) -> None:
        self.keys_PGCD = _places(places, key_GTD)
        self.values_PGCD = _places(places, value_GTD)
        self.prefix = (key_GTD[:, :0], value_GTD[:, :0])
        """Keys and values that all rows begin with, (G, T, D)."""

    @property
    def bytes_per_token(self) -> int:
        """What one token of one row takes."""
        return sum(x.shape[1] * x.shape[3] * x.element_size() for x in self._both)

    def reserve(self, capacity: int) -> None:
        """Make room for rows of `capacity` tokens; what is there stays."""
        if capacity > self.keys_PGCD.shape[2]:
            self.keys_PGCD = _grown(self.keys_PGCD, capacity)
            self.values_PGCD = _grown(self.values_PGCD, capacity)

    def write_prompt(self, place: int, copies: int, key_GTD: Tensor, value_GTD: Tensor) -> None:
        """Put a prompt into `copies` places, from `place` on: the prefix, and these behind it."""
        rows, start = slice(place, place + copies), self.prefix[0].shape[1]
        stop = start + key_GTD.shape[1]
        own = (key_GTD, value_GTD)
        for cached, first, then in zip(self._both, self.prefix, own, strict=True):
            cached[rows, :, :start] = first
            cached[rows, :, start:stop] = then

    def write_newest(
        self, newest: tuple[Tensor, Tensor], key_NGD: Tensor, value_NGD: Tensor
    ) -> None:
        """Put one more token into each of the first N places; `newest` are places and columns."""
        places_N, columns_N = newest
        self.keys_PGCD[places_N, :, columns_N] = key_NGD
        self.values_PGCD[places_N, :, columns_N] = value_NGD

    def move(self, source: Tensor, target: Tensor, tokens: int) -> None:
        """Copy the first `tokens` tokens of the places `source` to the places `target`."""
        for cached in self._both:
            cached[target, :, :tokens] = cached[source, :, :tokens]

    @property
    def _both(self) -> tuple[Tensor, Tensor]:
        return self.keys_PGCD, self.values_PGCD


class Cache:
    """The layers' places, and how many tokens each row has in its place.

    Args:
        places: Most rows at a time.
        longest: Most tokens that any row may come to, if that is known. Room for it is made at
            once unless it is more than twice what the first rows need: growing costs a copy, but
            answers seldom use all that they may.
        given: (L, 2, G, T, D) keys and values of each layer that all rows begin with, if any do.
    """

    def __init__(
        self, places: int, longest: int | None = None, given: Tensor | None = None
    ) -> None:
        self.places = places
        self.lengths: list[int] = []
        self.capacity = 0
        self._longest = longest
        self._given = given
        self._layers: dict[int, LayerCache] = {}

    def layer(self, index: int, key_GTD: Tensor, value_GTD: Tensor) -> LayerCache:
        """The places of layer `index`, made for such keys and values when it is seen first."""
        if index not in self._layers:
            made = self._layers[index] = LayerCache(self.places, key_GTD, value_GTD)
            if self._given is not None:
                key, value = self._given[index]
                made.prefix = (key.to(key_GTD.dtype), value.to(value_GTD.dtype))
        layer = self._layers[index]
        layer.reserve(self.capacity)
        return layer

    @property
    def bytes_per_token(self) -> int:
        """What one token of one row takes, in all layers."""
        return sum(layer.bytes_per_token for layer in self._layers.values())

    @property
    def layers(self) -> set[int]:
        """Indices of the layers that have keys and values here."""
        return set(self._layers)

    def add(self, lengths: Sequence[int]) -> None:
        """One more token in every row, and new rows of `lengths` tokens behind them."""
        self.lengths = [length + 1 for length in self.lengths] + list(lengths)
        needed = max(self.lengths, default=0)
        if needed > self.capacity:
            # Twice as much: a growing cache is copied a few times, not once per step.
            ample = max(2 * needed, SMALL)
            self.capacity = ample if self._longest is None else min(ample, self._longest)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the rows `rows` alone, in this order; a row may only move to the front."""
        moves = [(row, place) for place, row in enumerate(rows) if row != place]
        if moves:
            source, target = torch.tensor(moves).unbind(1)
            tokens = max(self.lengths[row] for row, _ in moves)
            for layer in self._layers.values():
                layer.move(source, target, tokens)
        self.lengths = [self.lengths[row] for row in rows]


def _places(places: int, like_GTD: Tensor) -> Tensor:
    heads, _, width = like_GTD.shape
    return like_GTD.new_empty(places, heads, 0, width)


def _grown(cached_PGCD: Tensor, capacity: int) -> Tensor:
    places, heads, before, width = cached_PGCD.shape
    # Zeros, not whatever was there: attention multiplies masked values by 0, and 0 x NaN is NaN.
    grown = cached_PGCD.new_zeros(places, heads, capacity, width)
    grown[:, :, :before] = cached_PGCD
    return grown
