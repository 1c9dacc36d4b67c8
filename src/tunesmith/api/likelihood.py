"""How probable a model holds texts behind prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tunesmith.data.collate import collate
from tunesmith.data.example import Batch, Example
from tunesmith.models.policy import Policy
from tunesmith.models.resting import resting

MAX_BATCH_TOKENS = 1024
"""Of one batch, as of held-out rows; a longer pair has one of its own."""
POSITIONS = 128
"""Whose log-probabilities over the whole vocabulary are in memory at a time."""

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt, and of what follows it."""


@dataclass(frozen=True, slots=True)
class Likely:
    """How probable a continuation is.

    Attributes:
        log_prob: Sum over its tokens, in nats; 0 for none.
        greedy: Whether each of its tokens is the most probable one.
        num_tokens: Of the continuation.
    """

    log_prob: float
    greedy: bool
    num_tokens: int


@torch.no_grad()
def likelihoods(policy: Policy, pairs: Sequence[Pair], pad_id: int) -> list[Likely]:
    """Log p(continuation | prompt) for each pair, in order.

    Args:
        policy: The model as it is now.
        pairs: Prompts of at least one token, and continuations; nothing is added to either.
        pad_id: Fills the ends of shorter lines; masked.
    """
    found: list[Likely] = [Likely(0.0, True, 0)] * len(pairs)
    # Lines of like length beside each other need little padding.
    order = sorted(
        (i for i, pair in enumerate(pairs) if len(pair[1])), key=lambda i: _size(pairs[i])
    )
    with resting(policy.model):
        for part in _batches(order, pairs):
            batch = collate([_example(pairs[i]) for i in part], packed=False, pad_id=pad_id)
            for i, likely in zip(part, _measure(policy, batch.to(policy.device)), strict=True):
                found[i] = likely
    return found


def _measure(policy: Policy, batch: Batch) -> list[Likely]:
    features_ND = policy.features(batch)
    log_probs, greedy = [], []
    for start in range(0, len(batch.targets), POSITIONS):
        part = slice(start, start + POSITIONS)
        log_probs_NV = policy.log_probs_of(features_ND[part])
        targets_N1 = batch.targets[part, None]
        log_probs.append(log_probs_NV.gather(1, targets_N1)[:, 0].double())
        greedy.append(log_probs_NV.argmax(1) == batch.targets[part])
    sizes = batch.targets_per_row
    rows = zip(torch.cat(log_probs).split(sizes), torch.cat(greedy).split(sizes), strict=True)
    return [Likely(float(p.sum()), bool(best.all()), len(p)) for p, best in rows]


def _batches(order: list[int], pairs: Sequence[Pair]) -> list[list[int]]:
    """Pairs in batches whose lines, padded to the longest, keep to `MAX_BATCH_TOKENS`."""
    made: list[list[int]] = []
    for i in order:
        if made and _size(pairs[i]) * (len(made[-1]) + 1) <= MAX_BATCH_TOKENS:
            made[-1].append(i)
        else:
            made.append([i])
    return made


def _size(pair: Pair) -> int:
    return len(pair[0]) + len(pair[1])


def _example(pair: Pair) -> Example:
    ids = np.array([*pair[0], *pair[1]], dtype=np.int32)
    return Example(ids, np.arange(len(ids)) >= len(pair[0]), "likelihood", 0)
