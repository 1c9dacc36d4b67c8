"""Keys and values that are given instead of computed, before each example of a pack.

The layers see the tokens of the rows alone. Only attention sees a longer pack, in which the given
keys and values lie before each example; their places ask nothing, and what they get is thrown away.

Legend: P given keys, T tokens of the pack, U places with the given ones, L layers, G key heads, D
width of a head.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What attention has to know of them.

    Attributes:
        numbers: (L, 2, G, P, D) keys and values of each layer.
        index: (U,) int64: the number of the given key that lies at a place, or P and more for the
            tokens of the pack.
        kept: (T,) int64, the places of the tokens of the pack.
        lengths: Of each segment, the given keys counted.
    """

    numbers: Tensor
    index: Tensor
    kept: Tensor
    lengths: tuple[int, ...]

    def among(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, dim: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of U places.

        Args:
            layer: Number of the layer.
            query: Of T tokens, which lie along `dim`.
            key: Likewise, with one dimension of heads: (G, T, D), (T, G, D) or (1, G, T, D).
            value: As the keys.
            dim: 0, 1 or 2.
        """
        asks_nothing = list(query.shape)
        asks_nothing[dim] = self.numbers.shape[3]
        first = [self._beside(each, key, dim) for each in self.numbers[layer]]
        return (
            self._spread(query.new_zeros(asks_nothing), query, dim),
            self._spread(first[0], key, dim),
            self._spread(first[1], value, dim),
        )

    def own(self, seen: Tensor, dim: int) -> Tensor:
        """What the tokens of the pack got to see, of all U places along `dim`."""
        return seen.index_select(dim, self.kept)

    def _beside(self, given_GPD: Tensor, like: Tensor, dim: int) -> Tensor:
        """Given numbers with the dimensions of `like`."""
        if like.ndim == 4:
            return given_GPD[None]
        return given_GPD.movedim(1, dim)

    def _spread(self, first: Tensor, own: Tensor, dim: int) -> Tensor:
        return torch.cat([first.to(own.dtype), own], dim).index_select(dim, self.index)
