"""A policy that answers with given log-probabilities, and examples made for it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tunesmith.data.collate import collate
from tunesmith.data.example import Batch, Example


class Told:
    """Stands in for `Policy`: the log-probability of token i is the i-th of `log_probs`."""

    device = torch.device("cpu")

    def __init__(self, log_probs: Sequence[float]) -> None:
        self.log_probs = torch.tensor(log_probs, requires_grad=True)

    def sequence_log_probs(self, batch: Batch) -> Tensor:
        """The sums, as those of `Policy`."""
        parts = self.log_probs[batch.targets].split(batch.targets_per_row)
        return torch.stack([part.sum() for part in parts])


def batch_of(
    lengths: Sequence[Sequence[int]],
    reference: Sequence[Sequence[float]] | None = None,
    packed: bool = True,
    **numbers: Sequence[float],
) -> Batch:
    """Examples whose sequences train so many tokens each, numbered through, behind a prompt of two.

    Args:
        lengths: Trained tokens of the sequences of each example.
        reference: Of each sequence, 0 where left out.
        packed: As for `collate`.
        **numbers: One of each example.
    """
    first, examples = 0, []
    for row, sizes in enumerate(lengths):
        ids = [np.r_[[900, 901], np.arange(first + at, first + at + n)] for at, n in _starts(sizes)]
        trained = [np.arange(n + 2) >= 2 for n in sizes]
        told = {name: np.float32([values[row]]) for name, values in numbers.items()}
        told["reference"] = np.float32(reference[row] if reference else [0.0] * len(sizes))
        parts = tuple(n + 2 for n in sizes) if len(sizes) > 1 else ()
        ids_of_all = np.concatenate(ids).astype(np.int32)
        examples.append(Example(ids_of_all, np.concatenate(trained), "f", row + 1, parts, told))
        first += sum(sizes)
    return collate(examples, packed, 0)


def _starts(sizes: Sequence[int]) -> list[tuple[int, int]]:
    return [(sum(sizes[:i]), size) for i, size in enumerate(sizes)]
