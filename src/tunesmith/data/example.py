"""What the data room hands on: examples, and the batches made of them.

Legend for shapes: B examples side by side, T tokens of one sequence.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

IGNORE = -100
"""Label of a position that carries no loss (the value torch's cross entropy ignores)."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row turned into tokens.

    Attributes:
        input_ids: (T,) int32 token ids.
        trained: (T,) bool, True where the token is a target of the loss. Never True at index 0.
        source: Path of the data file the row stands in.
        row: Number of the row in that file, counted from 1 (the line, for JSONL).
    """

    input_ids: np.ndarray
    trained: np.ndarray
    source: str
    row: int

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples laid out for one forward pass.

    A packed batch is one sequence: (1, T) with the examples end to end, blind to each other.
    A padded batch is (B, T) with padding on the right and an attention mask.

    Attributes:
        input_ids: int64, (1, T) or (B, T).
        positions: int64, same shape; restarts at 0 with each example.
        labels: int64, same shape; the *next* token where it is trained, IGNORE elsewhere. The last
            position of each example is always IGNORE, so no loss crosses from one to the next.
        lengths: Tokens of each example, in order.
        attention_mask: int64 (B, T), 1 on real tokens; None for a packed batch.
        rows: (source, row) of each example, in order; names the culprits when a step is rejected.
        num_trained: How many labels are not IGNORE.
    """

    input_ids: Tensor
    positions: Tensor
    labels: Tensor
    lengths: tuple[int, ...]
    attention_mask: Tensor | None
    rows: tuple[tuple[str, int], ...]
    num_trained: int

    @property
    def packed(self) -> bool:
        """Whether the examples lie end to end in one sequence."""
        return self.attention_mask is None

    @property
    def num_tokens(self) -> int:
        """Real tokens, padding not counted."""
        return sum(self.lengths)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        if self.input_ids.device == device:
            return self
        mask = self.attention_mask
        return Batch(
            self.input_ids.to(device, non_blocking=True),
            self.positions.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.lengths,
            None if mask is None else mask.to(device, non_blocking=True),
            self.rows,
            self.num_trained,
        )
