"""What the data room hands on: examples, and the batches made of them.

Legend for shapes: B examples side by side, T tokens of one sequence, N trained tokens.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Example:
    """One row turned into tokens.

    Attributes:
        input_ids: (T,) int32 token ids.
        trained: (T,) bool, True where the token is a target of the loss. Never True at index 0.
        source: Path of the data file the row stands in.
        row: Number of the row in that file, counted from 1 (the line, for JSONL).
        parts: Tokens of each of its sequences, where it has several end to end; else empty.
        numbers: float32 arrays that a method wants beside the tokens, by name; the first dimension
            counts examples (1), sequences, or trained tokens.
    """

    input_ids: np.ndarray
    trained: np.ndarray
    source: str
    row: int
    parts: tuple[int, ...] = ()
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.input_ids)

    def sequences(self) -> "list[Example]":
        """Each sequence as an example of its own, without the numbers."""
        if not self.parts:
            return [self]
        cuts = list(accumulate(self.parts))[:-1]
        pairs = zip(np.split(self.input_ids, cuts), np.split(self.trained, cuts), strict=True)
        return [Example(ids, trained, self.source, self.row) for ids, trained in pairs]


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples laid out for one forward pass.

    A packed batch is one sequence: (1, T) with segments end to end. A segment is an example, blind
    to all others; or a prefix that several examples share, computed once; or what one of these has
    of its own, which sees that prefix and itself.
    A padded batch is (B, T) with padding on the right and an attention mask.

    Attributes:
        input_ids: int64, (1, T) or (B, T).
        positions: int64, same shape; restarts at 0 with each example, goes on behind a prefix.
        places: int64 (N,), where each target is predicted: at the token before it, counted through
            `input_ids` line by line. Example by example; the first tokens behind a shared prefix
            are all predicted at its last one.
        targets: int64 (N,), the ids of the trained tokens, in the order of `places`.
        targets_per_row: How many of them each example has, in order.
        lengths: Tokens of each segment, or of each line without its padding.
        prefixes: For each segment the number of the one that it continues, None for those that
            begin an example. None altogether where nothing is shared.
        attention_mask: int64 (B, T), 1 on real tokens; None for a packed batch.
        rows: (source, row) of each sequence, in order; names the culprits when a step is rejected.
        units: How many sequences each example of the data has, in order: 2 for a chosen and a
            rejected answer. They sum to the number of `rows`.
        numbers: float32, by name; the first dimension counts examples, sequences or targets, as the
            method that asked for them knows.
    """

    input_ids: Tensor
    positions: Tensor
    places: Tensor
    targets: Tensor
    targets_per_row: tuple[int, ...]
    lengths: tuple[int, ...]
    prefixes: tuple[int | None, ...] | None
    attention_mask: Tensor | None
    rows: tuple[tuple[str, int], ...]
    units: tuple[int, ...] = ()
    numbers: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def packed(self) -> bool:
        """Whether the examples lie end to end in one sequence."""
        return self.attention_mask is None

    @property
    def num_trained(self) -> int:
        """Targets of all examples."""
        return len(self.targets)

    @property
    def num_tokens(self) -> int:
        """Tokens computed: a shared prefix counts once, padding does not."""
        return sum(self.lengths)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        if self.input_ids.device == device:
            return self
        names = ("input_ids", "positions", "places", "targets", "attention_mask")
        there = {
            name: _sent(tensor, device)
            for name in names
            if (tensor := getattr(self, name)) is not None
        }
        numbers = {name: _sent(tensor, device) for name, tensor in self.numbers.items()}
        return replace(self, **there, numbers=numbers)


def digest(batches: Iterable[Batch]) -> str:
    """A hash of all that a step is trained on: rows, tokens and targets of its batches, in order.

    A file counts by its name alone, so that rows which were moved to another folder are the same.

    Args:
        batches: In the memory of the processor.

    Returns:
        16 hex digits of SHA-256.
    """
    found = sha256()
    for batch in batches:
        rows = [(Path(source).name, row) for source, row in batch.rows]
        laid_out = (batch.lengths, batch.prefixes, tuple(batch.input_ids.shape))
        found.update(repr((rows, laid_out)).encode())
        for tensor in (batch.input_ids, batch.places, batch.targets):
            found.update(tensor.numpy().tobytes())
    return found.hexdigest()[:16]


def _sent(x: Tensor, device: torch.device) -> Tensor:
    """To a GPU from pinned memory: from any other, the host would wait for the copy."""
    return (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)
