"""What would make a run fit: each change with the peak that follows from the measured parts."""

from contextlib import closing

import pytest
import torch

from tunesmith.api import build
from tunesmith.api.advice import Adviser, Change
from tunesmith.api.batches import build_loader
from tunesmith.api.learner import build_base, build_learner
from tunesmith.api.resolve import resolve
from tunesmith.api.rows import build_rows
from tunesmith.engine.activations import bytes_per_token
from tunesmith.engine.fit import Fit, measure
from tunesmith.methods.base import LossSum
from tunesmith.recipe import from_dict


@pytest.fixture
def advise(make):
    """The changes for a recipe whose worst pass is said to keep 0.8 of a peak of 1 GiB."""

    def changes(available: float, peak: float = 1.0, **keys) -> list[Change]:
        recipe = resolve(make(**keys))
        base = build_base(recipe)
        rows = build_rows(recipe, base)
        learner = build_learner(recipe, base)
        trial = build.build_trial(recipe, learner)
        with closing(build_loader(recipe, rows)) as loader:
            tokens = loader.worst().input_ids.numel()
            measured = measure(trial, loader, 0.0)
            assert measured.worst_batch_tokens == tokens
            fit = Fit(tokens, peak, available, 0.8 * peak, 100.0, 10.0, 1.0, 0.0, 0.0)
            return Adviser(recipe, rows, learner, trial, loader, fit).changes()

    return changes


def worst_tokens(recipe) -> int:
    recipe = resolve(recipe)
    rows = build_rows(recipe, build_base(recipe))
    with closing(build_loader(recipe, rows)) as loader:
        return loader.worst().input_ids.numel()


def test_no_change_where_it_fits(advise) -> None:
    assert advise(1.0) == []


def test_smaller_passes_by_their_tokens(advise, make) -> None:
    keys = {"train__batch_rows": 4, "train__accumulate": 1, "train__kernels": "reference"}
    whole = worst_tokens(make(**keys))
    half = worst_tokens(make(**keys | {"train__batch_rows": 2, "train__accumulate": 2}))
    expected = 0.2 + 0.8 * half / whole
    found = advise(expected / 0.95 + 1e-6, **keys)
    assert found[0].overrides == "train.batch_rows=2 train.accumulate=2"
    assert found[0].peak_memory_gib == pytest.approx(expected)
    assert found[0].fits
    # A little less memory, and rows have to come one by one.
    found = advise(expected / 0.95 - 1e-3, **keys)
    assert found[0].overrides == "train.batch_rows=1 train.accumulate=4"


def test_checkpointing_keeps_less_of_a_token(advise) -> None:
    found = {change.overrides: change for change in advise(0.99, train__batch_rows=1)}
    change = found["model.gradient_checkpointing=true"]
    assert 0.2 < change.peak_memory_gib < 0.8


def test_checkpointing_is_not_advised_where_it_would_be_refused(advise, recipe_data) -> None:
    recipe_data["adapter"] = {"name": "prefix"}
    keys = {"train__batch_rows": 1, "train__precision": "fp32"}
    packed, padded = (
        advise(0.1, **keys, data__packing=each)[0].overrides for each in (True, False)
    )
    assert "model.gradient_checkpointing=true" in packed
    assert "model.gradient_checkpointing" not in padded


def test_a_base_that_is_trained_may_be_left_to_lora(advise, recipe_data) -> None:
    recipe_data["adapter"] = {"name": "full"}
    base = build_base(resolve(from_dict(recipe_data)))
    sizes = [p.numel() for p in base.model.parameters()]
    # Gradients and the two moments of AdamW, fp32, and a counter of steps for each parameter.
    saved = 4 * (3 * sum(sizes) + len(sizes)) / 2**30
    found = advise(1.9 * saved, peak=2 * saved, train__batch_rows=1)
    peaks = {change.overrides: change.peak_memory_gib for change in found}
    assert peaks["adapter.name=lora"] == pytest.approx(saved)


def test_all_together_where_none_is_enough(advise) -> None:
    found = advise(0.1, train__batch_rows=4)
    assert len(found) == 1
    assert not found[0].fits
    assert "train.batch_rows=1 train.accumulate=8" in found[0].overrides
    assert "model.gradient_checkpointing=true" in found[0].overrides
    assert "model.dtype=bf16" in found[0].overrides
    assert 0.1 < found[0].peak_memory_gib < 1.0


def test_autograd_keeps_what_a_hand_count_says() -> None:
    weight = torch.ones(8, 16, requires_grad=True)

    class Batch:
        def __init__(self, tokens: int) -> None:
            self.input_ids = torch.ones(1, tokens)
            self.x = torch.ones(tokens, 8)

    def loss(batch: Batch) -> LossSum:
        # The product keeps its input (8 floats a token) and the sigmoid its output (16).
        return LossSum((batch.x @ weight).sigmoid().sum(), 1)

    assert bytes_per_token(loss, Batch(3), Batch(7)) == 4 * (8 + 16)
    assert bytes_per_token(loss, Batch(3), Batch(3)) == 0.0
