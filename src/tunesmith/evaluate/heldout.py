"""The loss on rows that are never trained on."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.data.example import Batch
from tunesmith.errors import DataError
from tunesmith.evaluate.rows import sum_by_row, targets_by_row


@dataclass(frozen=True, slots=True)
class HeldoutResult:
    """Loss of every held-out row, in the order of the batches.

    Attributes:
        loss: Mean per trained token, in nats.
        per_row_sum: (n,) float64, the loss of each row summed over its tokens.
        per_row_count: (n,) trained tokens of each row.
        figures: (n,) float64 of each row, by name: what a method measures besides the loss.
        overall: Figures of all rows together that are no mean over them, by name.
        aside: (n,) of each row, by name: what a method measures for its `overall` alone.
    """

    loss: float
    per_row_sum: NDArray[np.float64]
    per_row_count: NDArray[np.int64]
    figures: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    overall: dict[str, float] = field(default_factory=dict)
    aside: dict[str, NDArray[np.float64]] = field(default_factory=dict)


@torch.no_grad()
def measured(
    measure: Callable[[Batch], Mapping[str, Tensor]], batches: Iterable[Batch]
) -> HeldoutResult:
    """What a method measures of `batches`, each example counting alike.

    Args:
        measure: Gives (U,) of each example of a batch by name, `loss` among them. Names that begin
            with an underscore are laid aside.
        batches: As for `heldout_loss`.
    """
    found: dict[str, list[NDArray[np.float64]]] = {}
    for batch in batches:
        for name, values in measure(batch).items():
            found.setdefault(name, []).append(values.double().cpu().numpy())
    figures = {name: np.concatenate(parts) for name, parts in found.items()}
    loss = figures.pop("loss")
    aside = {name: figures.pop(name) for name in list(figures) if name.startswith("_")}
    counts = np.ones(len(loss), dtype=np.int64)
    return HeldoutResult(float(loss.mean()), loss, counts, figures, aside=aside)


@torch.no_grad()
def heldout_loss(token_nll: Callable[[Batch], Tensor], batches: Iterable[Batch]) -> HeldoutResult:
    """The loss over `batches`, however rows are spread over them.

    Args:
        token_nll: Gives -log p of each trained token of a batch in order, (N,).
        batches: In the same order before and after, so that rows can be paired.

    Returns:
        The mean and each row's share. What is not finite stays so: a diverged model shows.

    Raises:
        DataError: There is not one trained token.
    """
    sums, counts = [np.empty(0)], [np.empty(0, dtype=np.int64)]
    for batch in batches:
        sums.append(sum_by_row(batch, token_nll(batch)))
        counts.append(targets_by_row(batch))
    per_row_sum, per_row_count = np.concatenate(sums), np.concatenate(counts)
    num_tokens = int(per_row_count.sum())
    if not num_tokens:
        raise DataError("data.eval", got="no trained token", expected="at least one")
    return HeldoutResult(float(per_row_sum.sum() / num_tokens), per_row_sum, per_row_count)
