from dataclasses import dataclass

import pytest
import torch
from transformers import PreTrainedModel

from tunesmith.generate.answers import answers
from tunesmith.generate.detect import fits
from tunesmith.generate.generate import generate
from tunesmith.generate.options import GenerateOptions, Sampling
from tunesmith.testing.architectures import DIRECT, OTHER, build

NEW = 16


LENGTHS = (3, 17, 1, 33, 9, 5)


@dataclass
class Named:
    """A model, and transformers' own greedy answer to each prompt alone."""

    name: str
    model: PreTrainedModel
    expected: list[list[int]]


@pytest.fixture(scope="module")
def prompts():
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (n,), generator=generator).tolist() for n in LENGTHS]


@pytest.fixture(scope="module", params=[*DIRECT, *OTHER])
def named(request, prompts):
    model = build(request.param)
    return Named(request.param, model, [oracle(model, prompt) for prompt in prompts])


def oracle(model, prompt):
    ids = torch.tensor([prompt])
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=NEW,
        pad_token_id=0,
    )
    return out[0, len(prompt) :].tolist()


def until(tokens, stops):
    """`tokens` up to the first stop token, without it."""
    return tokens[: next((i for i, t in enumerate(tokens) if t in stops), len(tokens))]


def test_the_session_is_chosen_by_what_the_model_computes(named):
    assert fits(named.model) == (named.name in DIRECT)


@pytest.mark.parametrize("batch_rows", [2, 32])
def test_greedy_tokens_are_those_of_transformers(named, prompts, batch_rows):
    # Stops that end some answers early and at different times, so that others take their places.
    stops = frozenset({named.expected[1][2], named.expected[3][5]})
    expected = [until(tokens, stops) for tokens in named.expected]
    assert len({len(answer) for answer in expected}) > 1
    assert generate(named.model, prompts, GenerateOptions(NEW, stops, 0, batch_rows)) == expected


def test_several_answers_on_either_session(named, prompts):
    """Greedy copies of one prompt: each gets the answer of the prompt alone."""
    options = GenerateOptions(NEW, frozenset(), 0, batch_rows=4)
    drawn = answers(named.model, prompts[:3], options, Sampling(0.0), num_answers=2)
    tokens = [[one.tokens for one in of_prompt] for of_prompt in drawn]
    assert tokens == [[expected, expected] for expected in named.expected[:3]]


def test_a_shared_beginning_changes_nothing(named, prompts):
    """Longer than the window of those that slide; the system message of a task in practice."""
    system = prompts[3][:30]
    texts = [system + prompt for prompt in prompts]
    together = generate(named.model, texts, GenerateOptions(4, frozenset(), 0))
    alone = [generate(named.model, [text], GenerateOptions(4, frozenset(), 0))[0] for text in texts]
    assert together == alone


def test_in_bf16_most_first_tokens_are_those_of_transformers(prompts):
    """Rounding may turn a near tie; a wrong mask or position would turn nearly every token."""
    model = build("llama", torch.bfloat16)
    assert fits(model)
    got = generate(model, prompts, GenerateOptions(NEW, frozenset(), 0))
    expected = [oracle(model, prompt) for prompt in prompts]
    same = [a[0] == b[0] for a, b in zip(got, expected, strict=True)]
    assert sum(same) >= len(prompts) - 1
