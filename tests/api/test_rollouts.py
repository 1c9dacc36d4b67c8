"""Methods whose answers the model draws itself, from the recipe to the report."""

import json

import pytest

from tunesmith.api.train import train

LIKE = {
    "type": "text_similarity",
    "name": "like",
    "evaluation_metric": "fuzzy_match",
    "input": "{{ sample.output_text }}",
    "reference": "etaoin shrdlu, ETAOIN SHRDLU; 0123456789",
}
"""What even a random model gets different scores by."""


def _on_policy(make, name, **changes):
    method = {"name": name, "num_answers": 3, "max_new_tokens": 5, "grader": LIKE}
    if name == "rejection":
        method["threshold"] = 0.05
    usual = {
        "method": method | changes.pop("method", {}),
        "adapter__dropout": 0.0,
        "train__epochs": None,
        "train__steps": 4,
        "train__accumulate": 1,
        "data__eval": None,
    }
    return make(**(usual | changes))


def _steps(run):
    lines = (run.path / "events.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e["event"] == "step"]


@pytest.mark.parametrize("name", ["grpo", "rloo", "reinforce", "ppo", "rejection"])
def test_a_run(make, name):
    run = train(_on_policy(make, name))
    print(run.status, run.report["reason"])
    for s in _steps(run):
        print(s["step"], s["loss"], s["grad_norm"], s["figures"])
    print((run.path / "rollouts" / "step-1.jsonl").read_text()[:800])
