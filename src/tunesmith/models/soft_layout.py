"""Where virtual tokens come to lie in a batch, and a pack as lines.

Legend: P virtual tokens, B lines, T tokens of a line, U places of a line with the virtual ones, N
trained tokens.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tunesmith.models.batch import Batch
from tunesmith.models.varlen import sent


@dataclass(frozen=True, slots=True)
class Around:
    """A batch with P places before each example.

    Attributes:
        num_tokens: P.
        index: (B, U) int64: the number of the virtual token at a place; P and more are the tokens
            of the batch, counted through it line by line.
        kept: (B T,) int64, where each token of the batch has come to lie, counted likewise.
        lengths: Tokens of each segment or line, virtual ones counted.
    """

    num_tokens: int
    index: Tensor
    kept: Tensor
    lengths: tuple[int, ...]

    def spread(self, first_P: Tensor, own_BT: Tensor) -> Tensor:
        """(B, U, ...): `first_P` (P, ...) before each example, `own_BT` (B, T, ...) behind."""
        return torch.cat([first_P, own_BT.flatten(0, 1)])[self.index]

    def batch(self, batch: Batch) -> Batch:
        """The batch with positions, places, lengths and mask as they are then; ids as they were."""
        first_P = torch.arange(self.num_tokens, device=self.index.device)
        mask = batch.attention_mask
        return replace(
            batch,
            positions=self.spread(first_P, batch.positions + self.num_tokens),
            places=self.kept[batch.places],
            lengths=self.lengths,
            attention_mask=None if mask is None else self.spread(torch.ones_like(first_P), mask),
        )


def before_each(batch: Batch, num_tokens: int) -> Around:
    """Places for `num_tokens` virtual tokens before each example of `batch`.

    What continues a shared prefix gets none of its own: it sees those before the prefix.
    """
    first = np.arange(num_tokens)
    if not batch.packed:
        lines, width = batch.input_ids.shape
        own = num_tokens + np.arange(lines * width).reshape(lines, width)
        index = np.concatenate([np.broadcast_to(first, (lines, num_tokens)), own], 1)
        return _around(batch, num_tokens, index, tuple(n + num_tokens for n in batch.lengths))
    prefixes = batch.prefixes or (None,) * len(batch.lengths)
    parts, lengths, at = [], [], num_tokens
    for length, prefix in zip(batch.lengths, prefixes, strict=True):
        before = first if prefix is None else first[:0]
        parts += [before, np.arange(at, at + length)]
        lengths.append(len(before) + length)
        at += length
    return _around(batch, num_tokens, np.concatenate(parts)[None], tuple(lengths))


def _around(batch: Batch, num_tokens: int, index: np.ndarray, lengths: tuple[int, ...]) -> Around:
    kept = np.flatnonzero(index >= num_tokens)
    tensors = (sent(torch.from_numpy(x), batch.input_ids.device) for x in (index, kept))
    return Around(num_tokens, *tensors, lengths)


def in_lines(batch: Batch) -> Batch:
    """A pack without shared prefixes as a padded line for each example; lines stay as they are."""
    if not batch.packed:
        return batch
    device, lengths_B = batch.input_ids.device, torch.tensor(batch.lengths)
    ends_B, column_T = lengths_B.cumsum(0), torch.arange(max(batch.lengths))
    starts_B, real_BT = ends_B - lengths_B, column_T < lengths_B[:, None]
    index_BT = torch.where(real_BT, starts_B[:, None] + column_T, 0).to(device)
    line_N = torch.bucketize(batch.places, ends_B.to(device), right=True)
    # By how much the tokens of a line move when each becomes as long as the longest.
    moved_B = (torch.arange(len(lengths_B)) * len(column_T) - starts_B).to(device)
    real_BT = real_BT.to(device)
    return replace(
        batch,
        input_ids=torch.where(real_BT, batch.input_ids[0][index_BT], 0),
        positions=torch.where(real_BT, batch.positions[0][index_BT], 0),
        places=batch.places + moved_B[line_N],
        attention_mask=real_BT.long(),
    )
