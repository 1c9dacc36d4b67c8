"""Methods whose answers the model draws itself, from the recipe to the report."""

import json

import numpy as np
import pytest
from safetensors import safe_open

from tests.api.matrix import LIKE
from tunesmith.api.plan import plan
from tunesmith.api.rewards import build_rewards
from tunesmith.api.run import Run
from tunesmith.api.train import resume, train
from tunesmith.engine.rollouts.sampler import Question
from tunesmith.errors import DataError, Interrupted, RecipeError
from tunesmith.methods import grpo
from tunesmith.runs.folder import RunFolder

FIGURES = {
    "reward",
    "reward_deviation",
    "no_signal",
    "answer_tokens",
    "cut",
    "entropy",
    "ungraded",
}


def _recipe(make, name="grpo", **changes):
    method = {"name": name, "num_answers": 3, "max_new_tokens": 5, "grader": LIKE}
    if name == "rejection":
        method["threshold"] = 0.02
    usual = {
        "adapter__dropout": 0.0,
        "data__eval": None,
        "train__epochs": None,
        "train__steps": 4,
        "train__accumulate": 1,
        "train__learning_rate": 1e-3,
        "evaluate__every": None,
        "evaluate__tasks": [],
    }
    own = [key for key in changes if key.startswith("method__")]
    method |= {key.removeprefix("method__"): changes.pop(key) for key in own}
    return make(method=method, **(usual | changes))


def _events(run, kind):
    lines = (run.path / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def _until(recipe, step):
    """Train to the end of a step; the export, which takes longest, is left out."""
    with pytest.raises(Interrupted):
        train(recipe, until=step)
    return Run.open(recipe.output.dir)


@pytest.mark.parametrize("name", ["reinforce", "rloo"])
def test_a_run_tells_of_its_answers_and_leaves_them(make, name):
    run = _until(_recipe(make, name), 2)
    steps = {step["step"]: step["figures"] for step in _events(run, "step")}
    assert all(figures.keys() >= FIGURES for figures in steps.values())
    for number, figures in steps.items():
        rows = _rollout(run, number)
        assert [len(row["answers"]) for row in rows] == [3, 3]
        assert rows[0]["prompt"].endswith("<|im_start|>assistant\n")
        answers = [answer for row in rows for answer in row["answers"]]
        assert figures["reward"] == pytest.approx(np.mean([a["reward"] for a in answers]), rel=1e-4)
        assert figures["cut"] == pytest.approx(1 - np.mean([a["stopped"] for a in answers]))
    assert steps


def test_the_value_head_is_in_checkpoints_and_not_in_the_export(make):
    run = train(_recipe(make, "ppo", train__steps=2))
    assert run.status == "succeeded"
    with safe_open(run.path / "checkpoints" / "step-2" / "state.safetensors", "pt") as state:
        names = set(state.keys())
        assert state.get_tensor("parameter/companion.weight").any()
    assert "optimizer/companion.weight/exp_avg" in names
    with safe_open(run.path / "adapter" / "adapter_model.safetensors", "pt") as exported:
        assert not [name for name in exported.keys() if "companion" in name]  # noqa: SIM118


def test_padded_and_by_reference_kernels_a_resumed_run_has_the_same_bits(make, tmp_path):
    def recipe(name):
        keys = {"method__updates": 3, "method__beta": 0.05, "train__kernels": "reference"}
        keys |= {"data__packing": False, "output__dir": str(tmp_path / name)}
        return _recipe(make, "grpo", **keys)

    whole, cut = _until(recipe("whole"), 3), _until(recipe("cut"), 2)
    with pytest.raises(Interrupted):
        resume(cut.path, until=3)
    assert _numbers(whole) == _numbers(cut)
    states = [run.path / "checkpoints" / "step-3" / "state.safetensors" for run in (whole, cut)]
    assert states[0].read_bytes() == states[1].read_bytes()


def test_several_updates_move_the_ratio_and_the_divergence(make):
    recipe = _recipe(make, method__updates=4, method__beta=0, train__learning_rate=0.05)
    run = _until(recipe, 3)
    steps = _events(run, "step")
    clipped, kl = ([s["figures"][name] for s in steps] for name in ("clipped", "kl"))
    assert clipped[0] == 0
    assert max(clipped) > 0
    assert kl[0] == pytest.approx(0, abs=1e-6)
    assert kl[-1] != 0
    assert len({step["digest"] for step in steps}) == 1


def test_a_list_of_graders_adds_up_by_weight():
    says = {"type": "string_check", "operation": "eq", "reference": "yes"}
    spec = [
        {"grader": says | {"input": "{{ sample.output_text }}"}, "weight": 2.0, "name": "says"},
        {"grader": "exact", "weight": -0.5},
    ]
    found = build_rewards(grpo.Config(grader=spec))(
        ["yes", "no", "yes"], [Question("yes", {}), Question("no", {}), Question("", {})]
    )
    assert found.rewards.tolist() == [1.5, -0.5, 2.0]
    assert {name: each.tolist() for name, each in found.scores.items()} == {
        "says": [1.0, 0.0, 1.0],
        "exact": [1.0, 1.0, 0.0],
    }
    assert list(found.failures) == [2]
    assert "no answer to compare with" in found.failures[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method__grader": "exakt"}, "method.grader: got 'exakt'"),
        ({"method__grader": []}, "method.grader: got an empty list"),
        ({"method__grader": [{"grader": "exact"}] * 2}, "method.grader: got exact twice"),
        ({"method__grader": LIKE | {"reference": "{{ item.key }}"}}, "a path that leads nowhere"),
        ({"method__max_new_tokens": 500}, "expected 512 tokens in all at most"),
        (
            {"train__batch_rows": None, "train__batch_tokens": 64},
            "train.batch_tokens: got 64 with method.name: grpo; expected train.batch_rows",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_before_the_first_step(make, changes, message):
    with pytest.raises(RecipeError) as caught:
        train(_recipe(make, **changes))
    assert message in str(caught.value)


def test_texts_have_no_prompt(make, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text(json.dumps({"text": "all of it"}) + "\n")
    with pytest.raises(DataError, match="the keys 'text'; expected the keys of a shape"):
        train(_recipe(make, data__train=str(path)))


def test_a_plan_counts_the_longest_answers_and_leaves_none(make, tmp_path):
    found = plan(_recipe(make, data__packing=True, train__batch_rows=2))
    # Two prompts of 23 to 27 tokens, each once, and 2 * 3 answers of 5.
    assert 2 * 23 + 30 <= found.fit.worst_batch_tokens <= 2 * 27 + 30
    assert found.num_steps == 4
    assert found.sampling_seconds > 0
    assert not RunFolder(tmp_path / "runs" / "tiny").rollouts.exists()


def _numbers(run):
    return [(s["step"], s["loss"], s["digest"]) for s in _events(run, "step")]


def _rollout(run, step):
    lines = (run.path / "rollouts" / f"step-{step}.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]
