"""Examples to a batch: end to end in one sequence, or side by side with padding.

Examples that begin alike, as answers to one prompt do, can be laid end to end with what they share
once and what is their own behind it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from tunesmith.data.example import Batch, Example


def collate(examples: Sequence[Example], packed: bool, pad_id: int) -> Batch:
    """Lays examples out for one forward pass.

    Args:
        examples: At least one.
        packed: End to end, shape (1, T); otherwise one a line, shape (B, longest).
        pad_id: Fills the end of shorter lines; its positions are 0.

    Returns:
        The batch; see `Batch` for its tensors. What the sequences of one example share at their
        beginning is laid out once, where they are packed.

    Raises:
        ValueError: There are no examples.
    """
    groups = [example.sequences() for example in examples]
    batch = collate_groups(groups, packed, pad_id)
    numbers = {
        name: torch.from_numpy(np.concatenate([each.numbers[name] for each in examples]))
        for name in examples[0].numbers
    }
    return replace(batch, units=tuple(map(len, groups)), numbers=numbers)


def collate_groups(groups: Sequence[Sequence[Example]], packed: bool, pad_id: int) -> Batch:
    """Lays examples out for one forward pass, with what those of a group share laid out once.

    Losses and gradients are those of the same examples given to `collate`. Padded batches share
    nothing.

    Args:
        groups: Examples that may begin alike, such as the answers to one prompt; a group of one is
            a plain example. At least one in all.
        packed: As for `collate`.
        pad_id: As for `collate`.

    Returns:
        The batch, its rows group by group; see `Batch` for its tensors.

    Raises:
        ValueError: There are no examples.
    """
    if not any(groups):
        raise ValueError("a batch needs at least one example")
    if packed:
        return _packed(groups)
    return _padded([example for group in groups for example in group], pad_id)


def num_shared(group: Sequence[Example]) -> int:
    """Tokens at the beginning of all examples of a group that need computing only once.

    They end before the first token that any example trains, so that each is a target as often as it
    is trained; and before the last token of the shortest.

    Args:
        group: At least one example; one alone shares nothing.
    """
    if len(group) == 1:
        return 0
    limit = min(min(_first_trained(example), len(example) - 1) for example in group)
    shared = group[0].input_ids[:limit]
    for example in group[1:]:
        differs = np.flatnonzero(shared != example.input_ids[: len(shared)])
        shared = shared[: differs[0]] if len(differs) else shared
    return len(shared)


def _first_trained(example: Example) -> int:
    return int(example.trained.argmax()) if example.trained.any() else len(example)


def _packed(groups: Sequence[Sequence[Example]]) -> Batch:
    ids, positions, places = [], [], []
    prefixes: list[int | None] = []
    at = 0
    for group in filter(None, groups):
        shared, start = num_shared(group), at
        prefix = len(ids) if shared else None
        if shared:
            ids.append(group[0].input_ids[:shared])
            positions.append(np.arange(shared))
            prefixes.append(None)
            at += shared
        for example in group:
            before = np.flatnonzero(example.trained) - 1
            places.append(before + np.where(before < shared, start, at - shared))
            ids.append(example.input_ids[shared:])
            positions.append(np.arange(shared, len(example)))
            prefixes.append(prefix)
            at += len(example) - shared
    return Batch(
        torch.from_numpy(np.concatenate(ids, dtype=np.int64)[None]),
        torch.from_numpy(np.concatenate(positions, dtype=np.int64)[None]),
        lengths=tuple(map(len, ids)),
        prefixes=None if set(prefixes) == {None} else tuple(prefixes),
        attention_mask=None,
        **_targets([example for group in groups for example in group], places),
    )


def _padded(examples: Sequence[Example], pad_id: int) -> Batch:
    lengths = tuple(map(len, examples))
    shape = (len(examples), max(lengths))
    ids = np.full(shape, pad_id, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    places = []
    for line, example in enumerate(examples):
        ids[line, : len(example)] = example.input_ids
        positions[line, : len(example)] = np.arange(len(example))
        mask[line, : len(example)] = 1
        places.append(np.flatnonzero(example.trained) - 1 + line * shape[1])
    return Batch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        lengths=lengths,
        prefixes=None,
        attention_mask=torch.from_numpy(mask),
        **_targets(examples, places),
    )


def _targets(examples: Sequence[Example], places: list[np.ndarray]) -> dict:
    """What a batch says about its targets and rows."""
    ids = [example.input_ids[example.trained] for example in examples]
    return {
        "places": torch.from_numpy(np.concatenate(places, dtype=np.int64)),
        "targets": torch.from_numpy(np.concatenate(ids, dtype=np.int64)),
        "targets_per_row": tuple(map(len, ids)),
        "rows": tuple((example.source, example.row) for example in examples),
    }
