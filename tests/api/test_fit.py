"""Which passes are run to foresee a run, and what follows from them."""

from contextlib import closing
from dataclasses import dataclass, field

import pytest

from tunesmith.api.batches import build_loader
from tunesmith.api.build import build_trial
from tunesmith.api.learner import build_base, build_learner
from tunesmith.api.resolve import resolve
from tunesmith.api.rows import build_rows
from tunesmith.data.example import Batch
from tunesmith.engine.fit import Trial, measure

PER_TOKEN = 0.001
"""Seconds, of every pass."""


@dataclass(frozen=True)
class Told(Trial):
    """Says what its passes take, and does none of them."""

    passes: list[int] = field(default_factory=list)

    def forward_backward(self, batch: Batch) -> float:
        self.passes.append(batch.input_ids.numel())
        return PER_TOKEN * self.passes[-1]

    def step(self) -> float:
        return 0.0


@pytest.mark.parametrize(("seconds", "worst", "most"), [(0.0, 1, 4), (0.1, 2, 50)])
def test_a_worst_pass_that_takes_all_the_time_is_run_once(make, seconds, worst, most) -> None:
    recipe = resolve(make())
    base = build_base(recipe)
    learner, rows = build_learner(recipe, base), build_rows(recipe, base)
    trial = Told(**vars(build_trial(recipe, learner)))
    with closing(build_loader(recipe, rows)) as loader:
        survey = loader.survey()
        found = measure(trial, loader, seconds)
        num_steps = loader.num_steps
    first = [int(survey.tokens[survey.cost.argmin()]), *[found.worst_batch_tokens] * worst]
    assert trial.passes[: len(first)] == first
    assert len(first) < len(trial.passes) <= most
    assert found.worst_batch_tokens * PER_TOKEN < 0.1
    per_step = PER_TOKEN * survey.tokens.sum() / survey.num_steps
    assert found.predicted_seconds == pytest.approx(per_step * num_steps)
