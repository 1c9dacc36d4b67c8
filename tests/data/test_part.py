"""Some of the sequences of a batch compute what they did among the others."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tunesmith.data.collate import collate
from tunesmith.data.example import Batch, Example
from tunesmith.data.part import only
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import tiny_model


def batch_of(packed: bool) -> Batch:
    """Two pairs that share beginnings, and one that shares nothing."""
    rng = np.random.default_rng(0)
    examples = []
    for row, (shared, sizes) in enumerate([(5, (3, 6)), (2, (1, 4)), (0, (7, 3))], 1):
        prompt = rng.integers(0, 256, shared)
        parts = [np.r_[prompt, rng.integers(0, 256, size + 1)] for size in sizes]
        trained = [np.arange(len(part)) > shared for part in parts]
        ids = np.concatenate(parts).astype(np.int32)
        lengths = tuple(map(len, parts))
        examples.append(Example(ids, np.concatenate(trained), "f", row, lengths))
    return collate(examples, packed, 0)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("keep", [(0, 2, 4), (1, 3, 5), (0, 1), (3,), (0, 1, 2, 3, 4, 5)])
def test_kept_sequences_are_as_likely_as_they_were(packed, kernels, keep) -> None:
    policy = Policy(tiny_model(seed=0), kernels, torch.float32)
    batch = batch_of(packed)
    expected = policy.sequence_log_probs(batch)[list(keep)]
    part = only(batch, keep)
    torch.testing.assert_close(policy.sequence_log_probs(part), expected, rtol=1e-5, atol=1e-4)
    assert part.rows == tuple(batch.rows[i] for i in keep)
    assert part.units == (1,) * len(keep)
    assert part.num_tokens < batch.num_tokens or len(keep) == 6


@pytest.mark.parametrize("packed", [True, False])
def test_all_of_them_are_the_batch(packed) -> None:
    batch = batch_of(packed)
    part = only(batch, range(6))
    assert part.lengths == batch.lengths
    assert part.prefixes == batch.prefixes
    for name in ("input_ids", "positions", "places", "targets"):
        assert torch.equal(getattr(part, name), getattr(batch, name))
    assert replace(part, units=batch.units).targets_per_row == batch.targets_per_row
