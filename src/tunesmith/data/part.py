"""Some of the sequences of a batch, as a batch."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from tunesmith.data.example import Batch


def only(batch: Batch, keep: Sequence[int]) -> Batch:
    """The batch without its other sequences; a prefix stays where one that continues it does.

    Args:
        batch: Of sequences numbered in the order of its `rows`.
        keep: Some of them, ascending; at least one.

    Returns:
        A batch laid out as the given one, of one sequence an example. Its `numbers` are as they
        were.
    """
    targets = _targets_of(batch, keep)
    kept = _packed(batch, keep, targets) if batch.packed else _padded(batch, keep, targets)
    return replace(
        kept,
        targets=batch.targets[targets],
        targets_per_row=tuple(batch.targets_per_row[i] for i in keep),
        rows=tuple(batch.rows[i] for i in keep),
        units=(1,) * len(keep),
    )


def _targets_of(batch: Batch, keep: Sequence[int]) -> Tensor:
    """Indices of the targets of some sequences."""
    ends = [0, *accumulate(batch.targets_per_row)]
    return _joined([range(ends[i], ends[i + 1]) for i in keep], batch)


def _packed(batch: Batch, keep: Sequence[int], targets: Tensor) -> Batch:
    prefixes = batch.prefixes or (None,) * len(batch.lengths)
    shared = set(prefixes)
    sequences = [number for number in range(len(prefixes)) if number not in shared]
    wanted = [sequences[i] for i in keep]
    segments = sorted({*wanted, *(prefixes[n] for n in wanted if prefixes[n] is not None)})
    number = {old: new for new, old in enumerate(segments)}
    ends = [0, *accumulate(batch.lengths)]
    tokens = _joined([range(ends[n], ends[n + 1]) for n in segments], batch)
    moved = torch.zeros(ends[-1], dtype=torch.int64, device=tokens.device)
    moved[tokens] = torch.arange(len(tokens), device=tokens.device)
    continued = tuple(number.get(prefixes[n]) for n in segments)
    return replace(
        batch,
        input_ids=batch.input_ids[:, tokens],
        positions=batch.positions[:, tokens],
        places=moved[batch.places[targets]],
        lengths=tuple(batch.lengths[n] for n in segments),
        prefixes=None if set(continued) == {None} else continued,
    )


def _padded(batch: Batch, keep: Sequence[int], targets: Tensor) -> Batch:
    lengths = tuple(batch.lengths[i] for i in keep)
    width, longest = batch.input_ids.shape[1], max(lengths)
    lines = torch.tensor(keep, device=batch.input_ids.device)
    places = batch.places[targets]
    line = torch.zeros(len(batch.lengths), dtype=torch.int64, device=lines.device)
    line[lines] = torch.arange(len(keep), device=lines.device)
    return replace(
        batch,
        input_ids=batch.input_ids[lines, :longest],
        positions=batch.positions[lines, :longest],
        places=line[places // width] * longest + places % width,
        lengths=lengths,
        attention_mask=batch.attention_mask[lines, :longest],
    )


def _joined(ranges: Sequence[range], batch: Batch) -> Tensor:
    """int64, all of them end to end, where the batch lives."""
    return torch.tensor([i for each in ranges for i in each], device=batch.input_ids.device)
