"""What models know of a batch; they and the data room never import each other."""

from typing import Protocol

from torch import Tensor


class Batch(Protocol):
    """What a batch must offer; `data.example.Batch` does, and says what each attribute is."""

    input_ids: Tensor
    positions: Tensor
    places: Tensor
    targets: Tensor
    targets_per_row: tuple[int, ...]
    lengths: tuple[int, ...]
    prefixes: tuple[int | None, ...] | None
    attention_mask: Tensor | None

    @property
    def packed(self) -> bool:
        """Whether the examples lie end to end in one sequence."""
