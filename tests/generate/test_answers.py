from itertools import chain

import pytest
import torch

from tunesmith.errors import DataError
from tunesmith.generate.answers import answers
from tunesmith.generate.generate import generate
from tunesmith.generate.options import GenerateOptions, Sampling
from tunesmith.testing.architectures import build

PROMPTS = [[1, 2, 3], [9] * 12, [50]]


@pytest.fixture(scope="module")
def model():
    return build("llama")


def options(max_new_tokens=10, stop_ids=frozenset(), **values):
    return GenerateOptions(max_new_tokens, frozenset(stop_ids), 0, **values)


def full_log_probs(model, prompt, tokens, temperature):
    """Log-probability of each of `tokens`, by one pass over prompt and answer."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + tokens]), use_cache=False).logits[0]
    log_probs = torch.log_softmax(logits[len(prompt) - 1 : -1].double() / temperature, -1)
    return log_probs.gather(1, torch.tensor(tokens)[:, None])[:, 0]


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0, 1.5])
def test_log_probabilities_are_those_of_a_full_pass(model, temperature):
    drawn = answers(model, PROMPTS, options(), Sampling(temperature, 0.9, seed=1), num_answers=3)
    for prompt, of_prompt in zip(PROMPTS, drawn, strict=True):
        for one in of_prompt:
            expected = full_log_probs(model, prompt, one.tokens, temperature or 1.0)
            got = torch.tensor(one.log_probs, dtype=torch.float64)
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch_rows", [1, 2, 5, 32])
def test_tokens_do_not_depend_on_what_is_drawn_beside_them(model, batch_rows):
    def draw(**values):
        drawn = answers(model, PROMPTS, options(**values), Sampling(1.0, seed=3), num_answers=4)
        return [[one.tokens for one in of_prompt] for of_prompt in drawn]

    everything = draw()
    assert len({tuple(t) for of_prompt in everything for t in of_prompt}) == 12
    assert draw(batch_rows=batch_rows) == everything


def test_another_seed_draws_otherwise(model):
    def draw(seed):
        return answers(model, PROMPTS, options(), Sampling(1.0, seed=seed))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_first_tokens_follow_the_probabilities_of_the_model(model):
    drawn = answers(model, [PROMPTS[0]], options(1, batch_rows=512), Sampling(0.1), 2000)[0]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1]
    expected, otherwise = torch.softmax(logits / 0.1, -1), torch.softmax(logits, -1)
    tokens = torch.tensor([one.tokens[0] for one in drawn])
    share = torch.bincount(tokens, minlength=len(expected)) / len(tokens)
    # Half the sum of the differences: sqrt(V / (2 pi n)) = 0.16 is expected of chance if all tokens
    # are equally probable, less where they are not.
    assert float((share - expected).abs().sum() / 2) < 0.16
    assert float((otherwise - expected).abs().sum() / 2) > 0.32


def test_greedy_answers_are_those_of_generate(model):
    drawn = answers(model, PROMPTS, options(), Sampling(0.0))
    assert [[one.tokens for one in of_prompt] for of_prompt in drawn] == [
        [tokens] for tokens in generate(model, PROMPTS, options())
    ]


def test_stop_tokens_and_the_log_probabilities_that_go_with_them(model):
    free = answers(model, PROMPTS, options(), Sampling(1.0), num_answers=2)
    stop = free[1][0].tokens[4]
    kept = answers(model, PROMPTS, options(10, {stop}, keep_stop=True), Sampling(1.0), 2)
    without = answers(model, PROMPTS, options(10, {stop}), Sampling(1.0), 2)
    stopped = 0
    for a, b, c in zip(*map(chain.from_iterable, (free, kept, without)), strict=True):
        end = a.tokens.index(stop) + 1 if stop in a.tokens else len(a.tokens)
        assert (b.tokens, b.log_probs) == (a.tokens[:end], pytest.approx(a.log_probs[:end]))
        assert b.stopped == c.stopped == (stop in a.tokens)
        assert len(c.tokens) == len(c.log_probs) == len(b.tokens) - b.stopped
        stopped += b.stopped
    assert 0 < stopped < 6


def test_an_answer_ends_where_the_positions_end(model):
    drawn = answers(model, [[7] * 510], options(), Sampling(1.0), num_answers=2)[0]
    assert [len(one.tokens) for one in drawn] == [2, 2]


def test_no_prompts_no_answers(model):
    assert answers(model, [], options(), Sampling(1.0), num_answers=2) == []


def test_what_cannot_be_answered_is_refused(model):
    with pytest.raises(ValueError, match="num_answers: got 0; expected at least 1"):
        answers(model, PROMPTS, options(), Sampling(1.0), num_answers=0)
    with pytest.raises(DataError, match="prompt 2: got no tokens"):
        answers(model, [[1], []], options(), Sampling(1.0))
