"""Virtual tokens under other heads: scores and states are PEFT's, whatever the layout."""

import numpy as np
import pytest
import torch

from tunesmith.adapters import base, prefix, prompt, ptuning
from tunesmith.data.collate import collate, collate_groups
from tunesmith.data.example import Example
from tunesmith.models import fast
from tunesmith.models.heads import Head, put
from tunesmith.models.policy import Policy
from tunesmith.testing.bases import random_base
from tunesmith.testing.tiny import byte_tokenizer

P = 5
CONFIGS = {
    "prompt": prompt.Config(virtual_tokens=P),
    "prefix": prefix.Config(virtual_tokens=P),
    "prefix by an MLP": prefix.Config(virtual_tokens=P, hidden=8),
    "ptuning": ptuning.Config(virtual_tokens=P, hidden=8),
}
SCORES, STATES = Head("scores", ("x", "y", "z")), Head("states", pooling="mean")
BASES = ["llama", "qwen3", "mistral", "gemma3", "gpt2"]
LAYOUTS = [(kernels, packed) for kernels in ("fast", "reference") for packed in (True, False)]


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def _attached(config, head, name="llama"):
    """Virtual tokens far from where they began, and the language model over the same decoder."""
    language = random_base(name)
    model = put(language, head, byte_tokenizer(), seed=0)
    attached = base.under(base.attach(config, model, 3), head)
    with torch.no_grad():
        for parameter in attached.trained.values():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return attached, language


def _sequences(lengths=(12, 2, 30, 7, 1)):
    rng = np.random.default_rng(0)
    return [rng.integers(1, 256, n).astype(np.int32) for n in lengths]


def _examples(sequences):
    return [Example(ids, np.zeros(len(ids), bool), "f", n) for n, ids in enumerate(sequences, 1)]


def _by_peft(attached, sequences):
    """Of each sequence alone, by PEFT's forward: its scores, or the states of its tokens."""
    fast.take_off(attached.model)
    outs = [attached.writer(input_ids=torch.from_numpy(ids)[None].long()) for ids in sequences]
    if attached.head.gives == "scores":
        return torch.cat([out.logits for out in outs])
    states = [out.last_hidden_state for out in outs]
    return [each[0, -len(ids) :] for each, ids in zip(states, sequences, strict=True)]


def _policy(attached, language, kernels):
    (fast.lay_over if kernels == "fast" else fast.take_off)(attached.model)
    return Policy(attached.model, kernels, torch.float32, language=language)


def _gradients(attached, values):
    attached.model.zero_grad(set_to_none=True)
    values.square().sum().backward()
    return {name: p.grad.clone() for name, p in attached.trained.items()}


def _require_near(got, exact):
    for name, gradient in got.items():
        assert (gradient - exact[name]).norm() <= 2e-5 * exact[name].norm(), name


def _require_scores_are_pefts(attached, language):
    expected = _by_peft(attached, _sequences())
    exact = _gradients(attached, expected)
    assert all(gradient.any() for gradient in exact.values())
    for kernels, packed in LAYOUTS:
        batch = collate(_examples(_sequences()), packed, pad_id=0)
        found = _policy(attached, language, kernels).scores(batch)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        _require_near(_gradients(attached, found), exact)


def test_scores_in_every_layout_are_pefts(config):
    _require_scores_are_pefts(*_attached(config, SCORES))


@pytest.mark.parametrize("name", BASES[1:4])
@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_so_they_are_over_other_bases(kind, name):
    _require_scores_are_pefts(*_attached(CONFIGS[kind], SCORES, name))


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_a_mean_is_over_the_tokens_of_the_text_alone(kind, name, pooling):
    attached, language = _attached(CONFIGS[kind], STATES, name)
    states = _by_peft(attached, _sequences())
    expected = torch.stack([x.mean(0) if pooling == "mean" else x[-1] for x in states])
    exact = _gradients(attached, expected)
    for kernels, packed in LAYOUTS:
        batch = collate(_examples(_sequences()), packed, pad_id=0)
        found = _policy(attached, language, kernels).sequence_states(batch, pooling)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        _require_near(_gradients(attached, found), exact)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_pairs_that_share_a_beginning_share_its_virtual_tokens(kind, name):
    attached, language = _attached(CONFIGS[kind], SCORES, name)
    start = _sequences((9,))[0]
    pairs = [[np.append(start, tail) for tail in _sequences((3, 6))], _sequences((6,))]
    expected = _by_peft(attached, [ids for pair in pairs for ids in pair])
    exact = _gradients(attached, expected)
    batch = collate_groups([_examples(pair) for pair in pairs], packed=True, pad_id=0)
    assert batch.prefixes is not None
    for kernels in ("fast", "reference"):
        found = _policy(attached, language, kernels).scores(batch)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        _require_near(_gradients(attached, found), exact)


@pytest.mark.parametrize("head", [SCORES, STATES], ids=["scores", "states"])
def test_off_the_language_model_is_the_base(config, head):
    """What was forgotten is measured with its own head, virtual tokens before each example."""
    rows = [Example(ids, np.arange(len(ids)) > 0, "f", 1) for ids in _sequences()]
    batch = collate(rows, True, pad_id=0)
    alone = Policy(random_base("llama"), "fast", torch.float32).token_nll(batch)
    attached, language = _attached(config, head)
    policy = _policy(attached, language, "fast")
    assert policy.fast_head
    assert (policy.token_nll(batch) - alone).abs().max() > 0.01
    with attached.disabled():
        torch.testing.assert_close(policy.token_nll(batch), alone, rtol=1e-5, atol=1e-6)
