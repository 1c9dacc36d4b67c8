"""A teacher is asked once, its answers are kept, and a student comes to answer as it does."""

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from tunesmith.api import teacher
from tunesmith.api.train import resume, train
from tunesmith.errors import Interrupted, RecipeError
from tunesmith.recipe import from_dict
from tunesmith.runs.timeline import Timeline
from tunesmith.testing.faulty import leave_out_export
from tunesmith.testing.tiny import byte_tokenizer, tiny_base


@pytest.fixture
def other(tiny_folder, tmp_path):
    """A teacher: the tiny base, each weight moved."""
    folder = tiny_base(tmp_path / "teacher")
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * parameter.std() * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def distilled(make, other, monkeypatch):
    """A recipe over few rows, all of them seen often."""
    leave_out_export(monkeypatch)
    data = make(train__epochs=4, adapter__dropout=0.0).model_dump(mode="json")
    data["method"] = {"name": "distill", "teacher": str(other), "top_k": 20, "temperature": 2.0}

    def build(**keys):
        return from_dict({**data, "method": {**data["method"], **keys}})

    return build


def _steps(run):
    return Timeline.read(run.folder.events).steps


def test_the_student_comes_nearer_and_the_teacher_is_asked_once(distilled, monkeypatch):
    first = _steps(train(distilled()))
    assert first[-1]["figures"]["divergence"] < 0.8 * first[0]["figures"]["divergence"]
    assert first[0]["loss"] == pytest.approx(4 * first[0]["figures"]["divergence"], rel=1e-5)
    monkeypatch.setattr(teacher, "load", None)
    again = _steps(train(distilled()))
    assert [step["loss"] for step in again] == [step["loss"] for step in first]


def test_stopped_and_resumed_it_ends_in_the_same_loss(distilled):
    whole = _steps(train(distilled()))
    with pytest.raises(Interrupted):
        train(distilled(), until=5)
    resumed = _steps(resume(distilled().output.dir))
    assert [step["loss"] for step in resumed] == [step["loss"] for step in whole]


@pytest.fixture
def on_policy(distilled):
    """The same by the student's own answers, which a teacher in memory judges."""
    like = {"type": "text_similarity", "evaluation_metric": "rouge_l"}
    recipe = distilled()
    method = {"teacher": recipe.method.teacher, "top_k": 20, "max_new_tokens": 6, "grader": like}
    data = recipe.model_dump(mode="json")
    data["method"] = {"name": "gkd", "num_answers": 2, "divergence": "forward", **method}
    data["train"] |= {"accumulate": 1, "learning_rate": 1e-3, "steps": 12, "epochs": None}
    data["data"]["eval"] = None
    return from_dict(data)


def test_on_its_own_answers_the_student_comes_nearer_too(on_policy):
    run = train(on_policy)
    losses = [step["loss"] for step in _steps(run)]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    with safe_open(run.folder.rollouts / "step-1.safetensors", "np") as file:
        tokens = len(file.get_tensor("answers"))
        ids, log_probs = (file.get_tensor(f"token/teacher_{name}") for name in ("ids", "log_probs"))
    assert ids.shape == log_probs.shape == (tokens, 20)
    assert (log_probs[:, :-1] >= log_probs[:, 1:]).all()


def test_on_its_own_answers_resumed_is_uninterrupted(on_policy):
    whole = _steps(train(on_policy))
    with pytest.raises(Interrupted):
        train(on_policy, until=5)
    resumed = _steps(resume(on_policy.output.dir))
    assert [step["loss"] for step in resumed] == [step["loss"] for step in whole]


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("packing", [True, False])
def test_layout_and_kernels_change_nothing(distilled, kernels, packing):
    recipe = distilled(sft=0.5)
    changes = {"train": {"kernels": kernels, "steps": 1, "epochs": None}}
    data = recipe.model_copy(
        update={
            "train": recipe.train.model_copy(update=changes["train"]),
            "data": recipe.data.model_copy(update={"packing": packing}),
        }
    )
    expected = _steps(train(recipe))[0]
    got = _steps(train(data))[0]
    assert got["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert got["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("name", ["distilled", "on_policy"])
def test_another_tokenizer_is_refused(name, other, request):
    built = request.getfixturevalue(name)
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["another"])
    tokenizer.save_pretrained(other)
    with pytest.raises(RecipeError, match=r"method.teacher.*tokenizer"):
        train(built() if name == "distilled" else built)


@pytest.mark.parametrize("name", ["distilled", "on_policy"])
def test_more_tokens_than_the_teacher_has_are_refused(name, request):
    built = request.getfixturevalue(name)
    recipe = built() if name == "distilled" else built
    more = recipe.model_copy(update={"method": recipe.method.model_copy(update={"top_k": 321})})
    with pytest.raises(RecipeError, match=r"method.top_k: got 321; expected at most 320, all"):
        train(more)


def test_all_tokens_of_the_teacher_can_be_kept(distilled):
    (first, *_) = _steps(train(distilled(top_k=320)))
    assert first["figures"]["teacher_kept"] == pytest.approx(1, abs=1e-5)
