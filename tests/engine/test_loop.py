"""The laws of the loop: one division, rejected steps change nothing, order is a function."""

import json
import math

import pytest
import torch

from tunesmith.api import batches, build
from tunesmith.api.batches import build_loader
from tunesmith.api.learner import build_base, build_learner
from tunesmith.api.resolve import resolve
from tunesmith.api.rows import build_rows
from tunesmith.engine.guard import PATIENCE
from tunesmith.engine.loop import (
    clip_gradients,
    forward_backward,
    step_seed,
    train,
)
from tunesmith.errors import Interrupted, RunError
from tunesmith.methods.base import LossSum
from tunesmith.recipe import from_dict
from tunesmith.testing.tiny import tiny_base


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A tiny recipe, as a function of changes to its train and data sections."""
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    base = tiny_base(tmp_path / "base")
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "p" * (1 + i % 4), "completion": "c" * (1 + i % 5)} for i in range(16)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")

    def make(packing=True, **train_keys):
        keys = {"epochs": 1, "batch_rows": 4, "learning_rate": 1e-2, "precision": "fp32"}
        return resolve(
            from_dict(
                {
                    "model": {"base": str(base)},
                    "data": {"train": str(path), "max_tokens": 128, "packing": packing},
                    "adapter": {"name": "full"},
                    "train": {**keys, **train_keys},
                }
            )
        )

    return make


def _parts(recipe, told=None, loss=None, stop=lambda: False):
    base = build_base(recipe)
    rows = build_rows(recipe, base)
    learner = build_learner(recipe, base)
    loader = build_loader(recipe, rows)
    notice = (lambda event: None) if told is None else told.append
    parts = build.build_parts(recipe, learner, loader, notice)
    parts.loss, parts.stop = loss or parts.loss, stop
    return parts


def _weights(parts):
    return torch.cat([p.detach().flatten() for p in parts.parameters])


def _trained(recipe, told=None):
    parts = _parts(recipe, told)
    train(parts)
    return _weights(parts)


def _first_step(recipe):
    """Loss, count, gradients and passes of the first step."""
    parts = _parts(recipe)
    batches = parts.loader.step(0)
    total, count, _ = forward_backward(parts, batches)
    gradients = torch.cat([p.grad.flatten() for p in parts.parameters])
    return total, count, gradients, [batch.lengths for batch in batches]


@pytest.mark.parametrize("packing", [True, False])
def test_accumulation_changes_neither_loss_nor_gradient(recipe, packing):
    total, count, gradients, _ = _first_step(recipe(packing, batch_rows=8))
    for rows, accumulate in ((4, 2), (2, 4), (1, 8)):
        found = _first_step(recipe(packing, batch_rows=rows, accumulate=accumulate))
        assert found[1] == count
        assert len(found[3]) >= accumulate
        torch.testing.assert_close(found[0], total, rtol=1e-6, atol=0)
        torch.testing.assert_close(found[2], gradients, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("packing", [True, False])
def test_accumulation_gives_the_same_bits_where_the_planner_makes_the_same_passes(
    recipe, packing, monkeypatch
):
    monkeypatch.setattr(batches, "BASE_TOKENS", 45)
    whole = _first_step(recipe(packing, batch_rows=8))
    parts = _first_step(recipe(packing, batch_rows=4, accumulate=2))
    assert len(whole[3]) > 1
    assert parts[3] == whole[3]
    assert torch.equal(parts[0], whole[0])
    assert torch.equal(parts[2], whole[2])


def test_accumulated_batches_equal_one_batch(recipe):
    # SGD, because Adam would blow rounding up where gradients are near zero.
    keys = {"optimizer": "sgd", "clip": None, "learning_rate": 0.5}
    whole = _trained(recipe(batch_rows=8, **keys))
    for rows, accumulate in ((4, 2), (2, 4), (1, 8)):
        parts = _trained(recipe(batch_rows=rows, accumulate=accumulate, **keys))
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)


def test_packed_equals_padded(recipe):
    keys = {"optimizer": "sgd", "clip": None, "learning_rate": 0.5}
    packed, padded = _trained(recipe(True, **keys)), _trained(recipe(False, **keys))
    torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-5)


def test_fast_kernels_equal_the_reference(recipe):
    # Four steps at a high rate: sums taken in another order grow to a few 1e-6.
    keys = {"optimizer": "sgd", "clip": None, "learning_rate": 0.5}
    fast = _trained(recipe(kernels="fast", **keys))
    reference = _trained(recipe(kernels="reference", **keys))
    torch.testing.assert_close(fast, reference, rtol=1e-5, atol=1e-5)


def test_the_reported_loss_is_the_mean_over_trained_tokens(recipe):
    told = []
    made = recipe(batch_rows=4, accumulate=2)
    parts = _parts(made, told)
    batches = parts.loader.step(0)
    expected = sum(parts.loss(b).total.item() for b in batches) / sum(
        b.num_trained for b in batches
    )
    train(parts)
    assert told[0].loss == pytest.approx(expected, rel=1e-6)
    assert told[0].tokens_trained == sum(b.num_trained for b in batches)


def test_a_rejected_step_changes_nothing_and_names_its_rows(recipe):
    made = recipe(batch_rows=4)
    parts = _parts(made)
    good, calls, before = parts.loss, [], {}

    def poisoned(batch):
        calls.append(batch)
        if len(calls) == 2:
            before["weights"] = _weights(parts)
            before["state"] = json.dumps(_numbers(parts.optimizer))
            return LossSum(good(batch).total * math.nan, batch.num_trained)
        if len(calls) == 3:
            assert torch.equal(_weights(parts), before["weights"])
            assert json.dumps(_numbers(parts.optimizer)) == before["state"]
        return good(batch)

    told = []
    parts.loss, parts.notice = poisoned, told.append
    train(parts)
    assert [event.rejected for event in told] == [False, True, False, False]
    assert told[1].rows == calls[1].rows
    assert told[0].rows == ()
    assert parts.guard.rejected == 1
    assert torch.isfinite(_weights(parts)).all()


def test_steps_that_stay_bad_end_the_run(recipe):
    made = recipe(batch_rows=2)
    parts = _parts(made)
    good = parts.loss
    parts.loss = lambda b: LossSum(good(b).total * math.inf, b.num_trained)
    expected = f"{PATIENCE} steps in a row; rows of the last: .*rows.jsonl"
    with pytest.raises(RunError, match=expected):
        train(parts)


def test_a_request_to_stop_saves_and_raises(recipe):
    saved = []
    parts = _parts(recipe(batch_rows=4), stop=lambda: True)
    parts.save = lambda step, must: saved.append((step, must))
    with pytest.raises(Interrupted, match="a request to stop after step 1 of 4"):
        train(parts)
    assert saved == [(1, True)]


def test_clipping_by_hand():
    gradients = [torch.tensor([3.0]), torch.tensor([4.0])]
    assert clip_gradients(gradients, 1.0).item() == pytest.approx(5.0)
    assert [g.item() for g in gradients] == pytest.approx([0.6, 0.8], rel=1e-5)
    untouched = [torch.tensor([3.0])]
    clip_gradients(untouched, None)
    assert untouched[0].item() == 3.0


def test_seeds_of_steps_differ():
    seeds = {step_seed(seed, step) for seed in range(3) for step in range(100)}
    assert len(seeds) == 300


def _numbers(optimizer):
    state = optimizer.state_dict()["state"]
    return [[key, torch.as_tensor(v).tolist()] for s in state.values() for key, v in s.items()]
