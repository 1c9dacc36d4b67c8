"""From the states of all tokens of a batch to one of each sequence.

Legend: T tokens computed, R sequences, D width of the model.
"""

from itertools import accumulate

import torch
from torch import Tensor

from tunesmith.models.batch import Batch


def last_places(batch: Batch) -> list[int]:
    """Where the last token of each sequence is, counted through `input_ids` line by line."""
    if not batch.packed:
        width = batch.input_ids.shape[1]
        return [line * width + length - 1 for line, length in enumerate(batch.lengths)]
    shared = set(batch.prefixes or ())  # A prefix that several sequences share ends none of them.
    stops = enumerate(accumulate(batch.lengths))
    return [stop - 1 for number, stop in stops if number not in shared]


def last(states_TD: Tensor, batch: Batch) -> Tensor:
    """(R, D) the state of the last token of each sequence."""
    places = torch.tensor(last_places(batch), device=states_TD.device)
    return states_TD.index_select(0, places)


def mean(states_TD: Tensor, batch: Batch) -> Tensor:
    """(R, D) float32, the mean over the tokens of each sequence; for batches that share nothing."""
    stops = [place + 1 for place in last_places(batch)]
    spans = zip(stops, batch.lengths, strict=True)
    return torch.stack([states_TD[stop - n : stop].float().mean(0) for stop, n in spans])


POOLED = {"last": last, "mean": mean}
"""By the name in a recipe."""
