"""Graders that ask a model, inside a run and beside one."""

import json

import pytest
import torch

from tunesmith.api.evaluate import evaluate
from tunesmith.api.judges import LocalJudge
from tunesmith.api.likelihood import likelihoods
from tunesmith.api.train import train
from tunesmith.errors import RecipeError
from tunesmith.evaluate.means import Drawing, Unanswered
from tunesmith.models.policy import Policy
from tunesmith.recipe import from_dict
from tunesmith.testing.tiny import PAD, byte_tokenizer, tiny_model

QUESTION = [{"role": "user", "content": "How good is {{sample.output_text}}?"}]
JUDGED = {"type": "score_model", "model": "base", "input": QUESTION,
          "sampling_params": {"max_completions_tokens": 4}}  # fmt: skip
CHOICE = {"type": "choice", "options": ["0", "1", "22"], "reference": "{{item.right}}"}


@pytest.fixture
def options(tmp_path):
    """Rows that name the right one of some options."""
    path = tmp_path / "options.jsonl"
    rows = [{"prompt": "say " + "x" * i, "completion": "0", "right": i % 3} for i in range(5)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@torch.no_grad()
def by_hand(model, prompt, continuation):
    """log p of a continuation, token by token, each from a forward pass of its own."""
    total, greedy = 0.0, True
    for at in range(len(continuation)):
        seen = torch.tensor([[*prompt, *continuation[:at]]])
        log_probs = torch.log_softmax(model(input_ids=seen).logits[0, -1].double(), -1)
        total += float(log_probs[continuation[at]])
        greedy &= int(log_probs.argmax()) == continuation[at]
    return total, greedy


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_likelihoods_are_those_of_the_model(kernels):
    model = tiny_model(seed=3)
    model.get_input_embeddings().weight.data *= 3
    best = int(model(input_ids=torch.tensor([[5, 6]])).logits[0, -1].argmax())
    pairs = [([1, 2, 3], [4, 5]), ([5, 6], [best]), ([7] * 40, [8] * 6), ([9], [1]), ([1, 2], [])]
    found = likelihoods(Policy(model, kernels, torch.float32), pairs, PAD)
    for pair, likely in zip(pairs, found, strict=True):
        log_prob, greedy = by_hand(model, *pair)
        assert likely.log_prob == pytest.approx(log_prob, abs=1e-4)
        assert (likely.greedy, likely.num_tokens) == (greedy, len(pair[1]))
    assert found[1].greedy


def test_likelihoods_do_not_depend_on_what_is_beside():
    model = tiny_model(seed=3)
    policy = Policy(model, "fast", torch.float32)
    pairs = [([i + 1] * (1 + 7 * i), [2, 3, i]) for i in range(12)]
    together = likelihoods(policy, pairs, PAD)
    alone = [likelihoods(policy, [pair], PAD)[0] for pair in pairs]
    for one, other in zip(together, alone, strict=True):
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-4)


@pytest.mark.parametrize("normalize", ["none", "characters", "tokens"])
def test_a_choice_is_the_most_probable_option(tiny_folder, options, normalize, monkeypatch):
    found = evaluate(str(tiny_folder), str(options), {**CHOICE, "normalize": normalize})
    model, tokenizer = tiny_model(seed=0), byte_tokenizer()
    for number, said in enumerate(found["outputs"]):
        text = f"<|im_start|>user\nsay {'x' * number}<|im_end|>\n<|im_start|>assistant\n"
        prompt = tokenizer(text)["input_ids"]
        values = {}
        for option in CHOICE["options"]:
            log_prob, _ = by_hand(model, prompt, tokenizer(option)["input_ids"])
            values[option] = log_prob / (1 if normalize == "none" else len(option))
        assert said == max(values, key=values.get)
        assert found["scores"][number] == (CHOICE["options"].index(said) == number % 3)


def test_a_run_measures_choices_and_what_its_base_judges(make, options, rows):
    tasks = [
        {"path": str(options), "grader": CHOICE, "name": "options"},
        {"path": str(rows), "grader": JUDGED, "name": "judged", "limit": 2, "max_new_tokens": 2},
    ]
    run = train(make(evaluate__tasks=tasks, train__epochs=0.5))
    chosen, judged = run.report["tasks"]
    assert chosen["n"] == 5
    assert chosen["ungraded"] == []
    # A random base gives no number, which names its rows and ends nothing.
    assert judged["after"] == 0.0
    assert "the judge gave no number" in judged["ungraded"][0]["reason"]


def test_a_base_that_is_trained_is_no_judge(make, rows):
    tasks = [{"path": str(rows), "grader": JUDGED, "limit": 1, "max_new_tokens": 2}]
    recipe = make(evaluate__tasks=tasks).model_dump() | {"adapter": {"name": "full"}}
    with pytest.raises(RecipeError, match="grader: model: got base, where the base's own weights"):
        train(from_dict(recipe))


class Speaker:
    """A speaker that repeats the question."""

    model = tiny_model()
    stop_ids = frozenset()
    pad = PAD

    def ids(self, messages):
        return list(byte_tokenizer()(messages[-1]["content"])["input_ids"])

    def texts(self, prompts, max_new_tokens):
        return [byte_tokenizer().decode(ids)[:max_new_tokens] for ids in prompts]

    def text(self, tokens):
        return str(len(tokens))


def test_a_local_judge_answers_greedily_unless_it_is_to_draw():
    judge = LocalJudge(Speaker(), "local 1")
    long = [{"role": "user", "content": "x" * 600}]
    short = [{"role": "user", "content": "short"}]
    found = judge.answer([short, long, short], Drawing(max_tokens=3))
    assert found == ["sho", Unanswered("a question of 600 tokens to a judge that sees 512"), "sho"]
    assert judge.answer([short], Drawing(temperature=1.0, max_tokens=3, seed=1)) == ["3"]


def test_a_choice_without_a_model_is_an_error():
    from tunesmith.evaluate import graders

    with pytest.raises(RecipeError, match="got a grader that asks the model itself, without one"):
        graders.open(CHOICE).grade_all([""], ["0"], [{"right": 0}])
