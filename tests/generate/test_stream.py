from itertools import islice

import pytest
import torch

from tunesmith.errors import DataError
from tunesmith.generate.answers import answers
from tunesmith.generate.generate import generate
from tunesmith.generate.options import GenerateOptions, Sampling
from tunesmith.generate.stream import stream
from tunesmith.testing.tiny import PAD, tiny_model

PROMPT = [72, 101, 108, 108, 111]


@pytest.fixture(scope="module")
def model():
    return tiny_model(seed=1)


def options(max_new_tokens=20, stop_ids=frozenset(), **values):
    return GenerateOptions(max_new_tokens, frozenset(stop_ids), PAD, **values)


def test_greedy_by_default(model):
    assert list(stream(model, PROMPT, options())) == generate(model, [PROMPT], options())[0]


def test_stop_token_ends_the_answer_and_is_left_out(model):
    free = list(stream(model, PROMPT, options()))
    stop = free[4]
    expected = free[: free.index(stop)]
    assert list(stream(model, PROMPT, options(20, {stop}))) == expected
    assert list(stream(model, PROMPT, options(20, {stop}, keep_stop=True))) == [*expected, stop]


def test_same_seed_same_tokens_other_seed_others(model):
    def draw(seed):
        return list(stream(model, PROMPT, options(), Sampling(1.0, 1.0, seed)))

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


@pytest.mark.parametrize("sampling", [Sampling(1e-300), Sampling(1.0, 1e-9), Sampling(0.0, 0.5, 9)])
def test_no_heat_or_no_nucleus_is_greedy(model, sampling):
    assert list(stream(model, PROMPT, options(), sampling)) == list(
        stream(model, PROMPT, options())
    )


def test_the_answer_ends_where_the_positions_end(model):
    assert len(list(stream(model, [65] * 509, options()))) == 3


def test_a_bad_prompt_is_refused_before_the_first_token(model):
    with pytest.raises(DataError, match="prompt 1: got 512 tokens; expected at most 511"):
        stream(model, [65] * 512, options())


def test_the_mode_is_put_back_when_the_reader_leaves():
    model = tiny_model(seed=1).train()
    tokens = stream(model, PROMPT, options())
    assert len(list(islice(tokens, 2))) == 2
    assert not model.training
    tokens.close()
    assert model.training


def test_reading_along_does_not_switch_gradients_off(model):
    for _ in stream(model, PROMPT, options(2)):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_the_tokens_of_the_first_drawn_answer(model):
    sampling = Sampling(1.0, 0.9, 5)
    ((drawn,),) = answers(model, [PROMPT], options(), sampling)
    assert list(stream(model, PROMPT, options(), sampling)) == drawn.tokens


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"temperature": -0.1}, "temperature: got -0.1; expected 0 or more"),
        ({"temperature": float("nan")}, "temperature: got nan"),
        ({"top_p": 0.0}, "top_p: got 0.0; expected more than 0"),
        ({"top_p": 1.1}, "top_p: got 1.1"),
    ],
)
def test_sampling_that_makes_no_sense_is_refused(values, text):
    with pytest.raises(ValueError, match=text):
        Sampling(**values)
