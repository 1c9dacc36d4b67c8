"""Greedy answers with virtual tokens are those of PEFT's own generation."""

import numpy as np
import pytest
import torch

from tunesmith.adapters import prefix, prompt
from tunesmith.errors import DataError
from tunesmith.generate import detect
from tunesmith.generate.answers import answers
from tunesmith.generate.generate import generate
from tunesmith.generate.options import GenerateOptions, Sampling
from tunesmith.generate.stream import stream
from tunesmith.testing.architectures import build

# PEFT says so of the positions that it is given by transformers, and counts them anew.
pytestmark = pytest.mark.filterwarnings("ignore:Position ids are not supported")
P = 5
OPTIONS = GenerateOptions(10, frozenset(), 0, batch_rows=4)


def _attached(adapter, name):
    attached = adapter.attach(build(name), adapter.Config(virtual_tokens=P), seed=3)
    with torch.no_grad():
        for parameter in attached.trained.values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    attached.writer.eval()
    return attached


def _prompts(lengths=(9, 3, 14, 1, 7), start=()):
    rng = np.random.default_rng(0)
    return [[*start, *rng.integers(1, 320, n).tolist()] for n in lengths]


@torch.no_grad()
def _by_peft(attached, prompts, num_tokens=10):
    """By PEFT's `generate`, each prompt alone."""
    found = []
    for ids in prompts:
        inputs = torch.tensor([ids])
        out = attached.writer.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=num_tokens,
            do_sample=False,
        )
        found.append(out[0, len(ids) :].tolist())
    return found


@pytest.mark.parametrize("adapter", [prompt, prefix])
@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "gemma2", "gpt-oss"])
def test_greedy_tokens_are_those_of_peft(adapter, name):
    """The latter two need the padded session; three of them have a window of 8 tokens."""
    attached, prompts = _attached(adapter, name), _prompts()
    assert detect.fits(attached.model) == (name in {"llama", "gemma3", "gpt2"})
    got = generate(attached.model, prompts, OPTIONS)
    assert got == _by_peft(attached, prompts)
    with attached.disabled():
        assert generate(attached.model, prompts, OPTIONS) != got


@pytest.mark.parametrize("adapter", [prompt, prefix])
def test_a_beginning_that_all_share_is_read_behind_them_once(adapter, monkeypatch):
    attached = _attached(adapter, "llama")
    start = np.random.default_rng(1).integers(1, 320, 60).tolist()
    prompts = _prompts((4, 9, 2, 1), start)
    seen = []
    monkeypatch.setattr(detect, "WORTH", 1)
    attached.model.model.embed_tokens.register_forward_hook(
        lambda module, args, out: seen.append(out.shape[1])
    )
    expected = _by_peft(attached, prompts)
    generate(attached.model, [[1]], OPTIONS)  # The trial is over after this.
    del seen[:]
    assert generate(attached.model, prompts, OPTIONS) == expected
    assert seen[:2] == [60, 4 + 9 + 2 + 1]


@pytest.mark.parametrize("adapter", [prompt, prefix])
def test_several_answers_to_one_prompt_and_a_stream(adapter):
    attached, (ids, *_) = _attached(adapter, "llama"), _prompts()
    (expected,) = _by_peft(attached, [ids])
    drawn = answers(attached.model, [ids], OPTIONS, Sampling(), num_answers=3)
    assert [each.tokens for each in drawn[0]] == [expected] * 3
    assert list(stream(attached.model, ids, OPTIONS)) == expected


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_positions_are_shared_with_them(name):
    attached = _attached(prompt, name)
    longest = attached.model.config.max_position_embeddings
    options = GenerateOptions(10, frozenset(), 0)
    fits = [1] * (longest - P - 1)
    assert len(generate(attached.model, [fits], options)[0]) == 1
    with pytest.raises(DataError, match=f"at most {longest - P - 1}"):
        generate(attached.model, [[1, *fits]], options)
    with attached.disabled():
        assert len(generate(attached.model, [fits], options)[0]) == P + 1


def test_wrapped_by_peft_it_answers_the_same():
    attached, prompts = _attached(prefix, "llama"), _prompts()
    expected = generate(attached.model, prompts, OPTIONS)
    assert generate(attached.writer, prompts, OPTIONS) == expected
