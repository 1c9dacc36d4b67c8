"""The plan: what it foresees is what the run then does."""

import pytest

from tunesmith.api.plan import plan
from tunesmith.api.train import train
from tunesmith.engine import fit
from tunesmith.engine.memory import available_gib
from tunesmith.runs.timeline import Timeline


def test_the_plan_counts_what_the_run_computes(make) -> None:
    recipe = make(train__batch_rows=4, train__accumulate=3)
    found = plan(recipe)
    steps = Timeline.read(train(recipe).folder.events).steps
    assert found.num_steps == len(steps)
    # Twelve rows a step, in passes of four rows at most.
    assert found.fit.passes_per_step == 3.0
    assert found.fit.padding == 0.0
    assert 0.0 <= found.fit.imbalance < 0.2
    tokens = sum(step["tokens"] for step in steps)
    seconds = found.fit.predicted_seconds
    assert found.fit.tokens_per_second * seconds == pytest.approx(tokens)
    assert found.evaluation_seconds > 0
    assert found.changes == []


def test_padding_is_told(make) -> None:
    found = plan(make(data__packing=False, train__batch_rows=8))
    assert 0.0 < found.fit.padding < 0.3


def test_a_pass_that_would_not_fit_is_not_run(make, monkeypatch) -> None:
    monkeypatch.setattr(fit, "available_gib", lambda device: 0.1)
    found = plan(make(train__batch_rows=4))
    assert not found.fit.fits
    assert found.fit.peak_memory_gib > 0.1
    assert found.fit.predicted_seconds > 0
    assert [change.fits for change in found.changes] == [False]
    assert "train.batch_rows=1" in found.changes[0].overrides


def test_a_container_may_have_less_than_its_machine(tmp_path, monkeypatch) -> None:
    import torch

    from tunesmith.engine import memory

    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CGROUP", limit)
    whole = available_gib(torch.device("cpu"))
    limit.write_text("max\n")
    assert available_gib(torch.device("cpu")) == pytest.approx(whole, rel=0.5)
    limit.write_text(f"{2**27}\n")
    assert available_gib(torch.device("cpu")) == 0.125
