"""Batches whose examples share prefixes: what they demand of a model, and the same unshared.

Several answers to one prompt see the same prompt, so its states need computing once, and its
gradient is the sum over the answers (prefix sharing as in arXiv:2410.20305 and arXiv:2506.05433).
That equals computing it once for each only while nothing is random.
"""

from dataclasses import replace
from itertools import accumulate

import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models.batch import Batch
from tunesmith.models.segments import segments


def unshared(batch: Batch) -> Batch:
    """The same rows with the same targets, each with a copy of its prefix: the reference path.

    Args:
        batch: A packed one.
    """
    parts, begun = segments(batch.lengths, batch.prefixes), set(batch.prefixes or ())
    rows = [
        [*range(part.shared, part.end), *range(part.start, part.stop)]
        for number, part in enumerate(parts)
        if number not in begun
    ]
    lengths = tuple(map(len, rows))
    starts = torch.tensor([0, *accumulate(lengths)][:-1])
    of_targets_N = starts.repeat_interleave(torch.tensor(batch.targets_per_row))
    device = batch.input_ids.device
    tokens = torch.tensor([token for row in rows for token in row], device=device)
    return replace(
        batch,
        input_ids=batch.input_ids[:, tokens],
        positions=batch.positions[:, tokens],
        places=of_targets_N.to(device) + batch.positions[0, batch.places],
        lengths=lengths,
        prefixes=None,
    )


def require_no_dropout(model: nn.Module) -> None:
    """Refuses a model in training that drops anything.

    Raises:
        ModelError: Each example would have to see its prefix with other parts dropped.
    """
    for name, module in model.named_modules():
        is_dropout = isinstance(module, nn.Dropout)
        rate = module.p if is_dropout else getattr(module, "attention_dropout", 0.0)
        if module.training and rate:
            raise ModelError(
                name,
                got=f"dropout of {rate} with a prefix that several examples share",
                expected="no dropout, so that computing the prefix once changes nothing",
                hint="set the dropout to 0, or data.packing: false",
            )
