"""NEFTune: the size of the noise by hand, and where there is none."""

from math import sqrt

import numpy as np
import pytest
import torch

from tunesmith.data.collate import collate, collate_groups
from tunesmith.data.example import Example
from tunesmith.models.noise import disturbed
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import tiny_model

LENGTHS = (12, 1, 30)


def _batch(packed):
    rng = np.random.default_rng(0)
    examples = [
        Example(rng.integers(0, 256, n).astype(np.int32), np.arange(n) > 0, "rows.jsonl", n)
        for n in LENGTHS
    ]
    return collate(examples, packed=packed, pad_id=0)


@pytest.mark.parametrize("packed", [True, False])
def test_each_example_has_noise_of_its_own_size(packed):
    batch, width = _batch(packed), 64
    torch.manual_seed(0)
    noise = disturbed(torch.zeros(*batch.input_ids.shape, width), batch, alpha=5.0)
    parts = noise[0].split(LENGTHS) if packed else [noise[i, :n] for i, n in enumerate(LENGTHS)]
    for length, part in zip(LENGTHS, parts, strict=True):
        most = 5.0 / sqrt(length * width)
        assert 0.9 * most < part.abs().max() <= most
        assert part.std() == pytest.approx(most / sqrt(3), rel=0.15)


def test_one_example_alone_has_the_noise_of_the_paper():
    batch = collate(
        [Example(np.arange(20, dtype=np.int32), np.arange(20) > 0, "rows.jsonl", 1)], True, 0
    )
    embedded = torch.randn(1, 20, 64)
    torch.manual_seed(3)
    found = disturbed(embedded, batch, 5.0)
    torch.manual_seed(3)
    most = 5.0 / sqrt(20 * 64)
    expected = embedded + torch.zeros_like(embedded).uniform_(-most, most)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_noise_comes_in_training_alone_and_by_the_seed(packed, kernels):
    batch, model = _batch(packed), tiny_model()
    plain = Policy(model, kernels, torch.float32).loss_sum(batch)
    policy = Policy(model, kernels, torch.float32, noise=50.0)
    assert torch.equal(policy.loss_sum(batch), plain)
    model.train()
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(policy.loss_sum(batch).item())
    assert found[0] == found[1]
    assert len({*found, plain.item()}) == 3


def test_noise_on_bf16_passes_stays_bf16():
    batch, model = _batch(True), tiny_model().train()
    torch.manual_seed(0)
    assert torch.isfinite(Policy(model, "fast", torch.bfloat16, noise=5.0).loss_sum(batch))


def test_examples_that_share_a_prefix_are_each_disturbed_by_themselves():
    start, rng = np.arange(9), np.random.default_rng(0)
    group = [
        Example(
            np.concatenate([start, rng.integers(0, 256, n)]).astype(np.int32),
            np.arange(9 + n) >= 9,
            "rows.jsonl",
            n,
        )
        for n in (4, 7)
    ]
    batch, model = collate_groups([group], packed=True, pad_id=0), tiny_model().train()
    assert batch.prefixes is not None
    found = []
    for kernels in ("fast", "reference"):
        torch.manual_seed(0)
        found.append(Policy(model, kernels, torch.float32, noise=20.0).token_nll(batch))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    plain = Policy(model, "reference", torch.float32).token_nll(batch)
    assert (found[0] - plain).abs().max() > 1e-3
