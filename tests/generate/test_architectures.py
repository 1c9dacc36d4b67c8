import pytest
import torch

from tunesmith.generate.answers import answers
from tunesmith.generate.detect import fits
from tunesmith.generate.generate import generate
from tunesmith.generate.options import GenerateOptions, Sampling
from tunesmith.testing.architectures import DIRECT, OTHER, build

NEW = 16


@pytest.fixture(scope="module")
def prompts():
    generator = torch.Generator().manual_seed(0)
    lengths = (3, 17, 1, 33, 9, 5)
    return [torch.randint(0, 256, (n,), generator=generator).tolist() for n in lengths]


@pytest.fixture(scope="module", params=[*DIRECT, *OTHER])
def named(request):
    return request.param, build(request.param)


def oracle(model, prompt, stop_ids):
    """transformers' own greedy answer to one prompt alone, without the stop token."""
    ids = torch.tensor([prompt])
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=NEW,
        eos_token_id=sorted(stop_ids) or None,
        pad_token_id=0,
    )
    answer = out[0, len(prompt) :].tolist()
    return answer[:-1] if answer and answer[-1] in stop_ids else answer


def test_the_session_is_chosen_by_what_the_model_computes(named):
    name, model = named
    assert fits(model) == (name in DIRECT)


@pytest.mark.parametrize("batch_rows", [2, 32])
def test_greedy_tokens_are_those_of_transformers(named, prompts, batch_rows):
    _, model = named
    free = [oracle(model, prompt, frozenset()) for prompt in prompts]
    # Stops that end some answers early and at different times, so that others take their places.
    stops = frozenset({free[1][2], free[3][5]})
    expected = [oracle(model, prompt, stops) for prompt in prompts]
    assert len({len(answer) for answer in expected}) > 1
    assert generate(model, prompts, GenerateOptions(NEW, stops, 0, batch_rows)) == expected


def test_several_answers_on_either_session(named, prompts):
    """Greedy copies of one prompt: each gets the answer of the prompt alone."""
    _, model = named
    options = GenerateOptions(NEW, frozenset(), 0, batch_rows=4)
    drawn = answers(model, prompts[:3], options, Sampling(0.0), num_answers=2)
    expected = [oracle(model, prompt, frozenset()) for prompt in prompts[:3]]
    assert [[a.tokens for a in of_prompt] for of_prompt in drawn] == [[e, e] for e in expected]


def test_in_bf16_most_tokens_are_those_of_transformers(prompts):
    """Rounding may turn a near tie; a wrong mask or position would turn nearly every token."""
    model = build("llama", torch.bfloat16)
    assert fits(model)
    got = generate(model, prompts, GenerateOptions(NEW, frozenset(), 0))
    expected = [oracle(model, prompt, frozenset()) for prompt in prompts]
    firsts = [a[0] == b[0] for a, b in zip(got, expected, strict=True)]
    assert sum(firsts) >= len(prompts) - 1
