"""Virtual tokens before each example: losses and gradients are PEFT's, whatever the layout."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tunesmith.adapters import prefix, prompt, ptuning
from tunesmith.data.collate import collate, collate_groups
from tunesmith.data.example import Example
from tunesmith.errors import ModelError
from tunesmith.models import blocks, fast, soft, varlen
from tunesmith.models.given import Given
from tunesmith.models.kernels import build
from tunesmith.models.policy import Policy
from tunesmith.models.soft_layout import before_each, in_lines
from tunesmith.testing import fake_gpu
from tunesmith.testing.bases import random_base

KINDS = {
    "prompt": (prompt, {}),
    "prefix": (prefix, {}),
    "prefix by an MLP": (prefix, {"hidden": 8}),
    "ptuning": (ptuning, {"hidden": 8}),
    "ptuning by an LSTM": (ptuning, {"encoder": "lstm", "hidden": 8}),
}
P = 5


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def _attached(kind, name="llama", **options):
    """Virtual tokens far from where they began, over a random base."""
    adapter, keys = KINDS[kind]
    config = adapter.Config(virtual_tokens=P, **keys, **options)
    attached = adapter.attach(random_base(name), config, seed=3)
    with torch.no_grad():
        for parameter in attached.trained.values():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return attached


def _examples(lengths=(12, 2, 30, 7, 1)):
    rng = np.random.default_rng(0)
    return [
        Example(rng.integers(1, 320, n).astype(np.int32), np.arange(n) >= max(n // 2, 1), "f", i)
        for i, n in enumerate(lengths, 1)
    ]


def _gradients(attached, loss):
    attached.model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in attached.trained.items()}


def _by_peft(attached, examples):
    """Loss of each example on its own, by PEFT's forward, added up; and its gradients."""
    fast.take_off(attached.model)
    total = torch.zeros(())
    for example in examples:
        ids = torch.from_numpy(example.input_ids.astype(np.int64))
        trained = torch.from_numpy(example.trained)[1:]
        logits = attached.writer(input_ids=ids[None]).logits[0, -len(ids) :]
        total = total + F.cross_entropy(logits[:-1][trained], ids[1:][trained], reduction="sum")
    return total.detach(), _gradients(attached, total)


def _by_policy(attached, batch, kernels="fast"):
    (fast.lay_over if kernels == "fast" else fast.take_off)(attached.model)
    loss = Policy(attached.model, kernels, torch.float32).loss_sum(batch)
    return loss.detach(), _gradients(attached, loss)


def _require_equal(got, expected):
    torch.testing.assert_close(got[0], expected[0], rtol=1e-5, atol=0)
    assert got[1].keys() == expected[1].keys()
    for name, gradient in got[1].items():
        exact = expected[1][name]
        assert (gradient - exact).norm() <= 1e-5 * exact.norm(), name


def _require_layouts_equal_peft(attached):
    examples = _examples()
    expected = _by_peft(attached, examples)
    assert all(gradient.any() for gradient in expected[1].values())
    for kernels in ("fast", "reference"):
        for packed in (True, False):
            got = _by_policy(attached, collate(examples, packed, 0), kernels)
            _require_equal(got, expected)


def test_every_layout_equals_peft(kind):
    _require_layouts_equal_peft(_attached(kind))


@pytest.mark.parametrize("name", ["qwen3", "mistral", "gemma3", "gpt2"])
@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_so_it_does_for_other_bases(kind, name):
    _require_layouts_equal_peft(_attached(kind, name))


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3"])
def test_so_it_does_as_a_gpu_computes_it(name, monkeypatch):
    attached = _attached("prefix", name)
    expected = _by_peft(attached, _examples())
    monkeypatch.setattr(build, "library", lambda: None)
    monkeypatch.setattr(blocks, "_seen_on_cpu", blocks._seen)
    monkeypatch.setattr(varlen, "serves", lambda *facts: True)
    monkeypatch.setattr(varlen, "_function", lambda: fake_gpu.varlen_attn)
    _require_equal(_by_policy(attached, collate(_examples(), True, 0)), expected)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_a_shared_prefix_begins_with_them(kind, name):
    attached = _attached(kind, name)
    rng = np.random.default_rng(1)
    start = rng.integers(1, 320, 9)
    tails = [rng.integers(1, 320, n) for n in (3, 6, 11)]
    whole = [np.append(start, tail).astype(np.int32) for tail in tails]
    group = [Example(ids, np.arange(len(ids)) > 8, "f", n) for n, ids in enumerate(whole, 1)]
    groups = [group, _examples((6,)), group[:2]]
    expected = _by_peft(attached, [example for each in groups for example in each])
    batch = collate_groups(groups, packed=True, pad_id=0)
    assert batch.prefixes is not None
    for kernels in ("fast", "reference"):
        _require_equal(_by_policy(attached, batch, kernels), expected)


def test_off_is_the_base(kind):
    batch = collate(_examples(), True, 0)
    base = Policy(random_base("llama"), "fast", torch.float32).token_nll(batch)
    attached = _attached(kind)
    policy = Policy(attached.model, "fast", torch.float32)
    assert (policy.token_nll(batch) - base).abs().max() > 0.01
    with attached.disabled():
        assert torch.equal(policy.token_nll(batch), base)
        ids = torch.arange(9)[None]
        expected = random_base("llama")(input_ids=ids).logits
        assert torch.equal(attached.model(input_ids=ids).logits, expected)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_bf16_is_near_fp32(kind, kernels, weights):
    attached, batch = _attached(kind), collate(_examples(), True, 0)
    exact = Policy(attached.model, "reference", torch.float32).loss_sum(batch)
    for name, parameter in attached.model.named_parameters():
        if name not in attached.trained:
            parameter.data = parameter.data.to(weights)
    if kernels == "fast":
        fast.lay_over(attached.model)
    near = Policy(attached.model, kernels, torch.bfloat16).loss_sum(batch)
    near.backward()
    assert near.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(p.grad.isfinite().all() for p in attached.trained.values())


def test_a_padded_plain_call_equals_each_line_alone(kind):
    attached = _attached(kind)
    examples = _examples((9, 4))
    batch = collate(examples, False, 0)
    tokens = {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
        "position_ids": batch.positions,
    }
    logits = attached.model(**tokens).logits
    kept = attached.model(**tokens, logits_to_keep=torch.tensor([3])).logits
    for line, example in enumerate(examples):
        ids = torch.from_numpy(example.input_ids.astype(np.int64))[None]
        alone = attached.writer(input_ids=ids).logits[0, -len(example) :]
        torch.testing.assert_close(logits[line, : len(example)], alone, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(kept[line, 0], alone[3], rtol=1e-5, atol=1e-5)


def test_a_plain_call_goes_on_from_its_cache(kind):
    attached, ids = _attached(kind), torch.arange(1, 9)[None]
    whole = attached.model(ids, labels=ids)
    shown = F.cross_entropy(whole.logits[0, :-1], ids[0, 1:])
    torch.testing.assert_close(whole.loss, shown)
    first = attached.model(input_ids=ids[:, :5], use_cache=True)
    then = attached.model(input_ids=ids[:, 5:], past_key_values=first.past_key_values)
    got = torch.cat([first.logits, then.logits], 1)
    torch.testing.assert_close(got, whole.logits, rtol=1e-5, atol=1e-5)


def test_blocks_are_computed_again_with_what_they_were_given(kind):
    attached, batch = _attached(kind), collate(_examples(), True, 0)
    expected = _by_policy(attached, batch)
    attached.model.activation_checkpointing_enable({"use_reentrant": False})
    attached.model.train()
    _require_equal(_by_policy(attached, batch), expected)


def test_blocks_that_would_drop_the_prefix_are_refused():
    attached = _attached("prefix")
    attached.model.activation_checkpointing_enable({"use_reentrant": False})
    attached.model.train()
    with pytest.raises(ModelError, match=r"gradient_checkpointing.*\nhint: set data\.packing"):
        _by_policy(attached, collate(_examples(), False, 0))


def test_the_layout_by_hand():
    examples = [_examples((3,))[0], _examples((2,))[0]]
    batch = collate(examples, True, 0)
    around = before_each(batch, 2)
    assert around.index.tolist() == [[0, 1, 2, 3, 4, 0, 1, 5, 6]]
    assert around.kept.tolist() == [2, 3, 4, 7, 8]
    assert around.lengths == (5, 4)
    laid = around.batch(batch)
    assert laid.positions.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3]]
    # The second and third token of the first example, and the second of the other, are trained.
    assert batch.places.tolist() == [0, 1, 3]
    assert laid.places.tolist() == [2, 3, 7]
    padded = before_each(collate(examples, False, 0), 2)
    assert padded.index.tolist() == [[0, 1, 2, 3, 4], [0, 1, 5, 6, 7]]
    laid = padded.batch(collate(examples, False, 0))
    assert laid.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert laid.places.tolist() == [2, 3, 7]
    assert laid.lengths == (5, 4)


def test_what_continues_a_prefix_has_none_of_its_own():
    ids = np.array([7, 8, 9], dtype=np.int32)
    group = [Example(np.append(ids, n).astype(np.int32), np.arange(4) > 2, "f", n) for n in (1, 2)]
    batch = collate_groups([group], packed=True, pad_id=0)
    assert batch.lengths == (3, 1, 1)
    around = before_each(batch, 2)
    assert around.index.tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    assert around.lengths == (5, 1, 1)
    assert around.batch(batch).positions.tolist() == [[0, 1, 2, 3, 4, 5, 5]]


def test_a_pack_in_lines_is_the_padded_batch():
    examples = _examples()
    got, expected = in_lines(collate(examples, True, 0)), collate(examples, False, 0)
    for name in ("input_ids", "positions", "places", "targets", "attention_mask"):
        assert torch.equal(getattr(got, name), getattr(expected, name)), name
    assert in_lines(expected) is expected


def test_given_keys_among_computed_ones_by_hand():
    numbers = torch.tensor([[10.0], [20.0]])[None, :, None, None]  # One layer, head, key, number.
    given = Given(numbers, torch.tensor([0, 1, 0, 2]), torch.tensor([1, 3]), (2, 2))
    q, k, v = (torch.tensor([[a], [b]])[None] for a, b in ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0)))
    laid = [x.flatten().tolist() for x in given.among(0, q, k, v, dim=1)]
    assert laid == [[0, 1, 0, 2], [10, 3, 10, 4], [20, 5, 20, 6]]
    turned = given.among(0, *(x.transpose(0, 1) for x in (q, k, v)), dim=0)
    assert [x.flatten().tolist() for x in turned] == laid
    assert given.own(torch.tensor([7, 8, 9, 10]), dim=0).tolist() == [8, 10]


def test_numbers_are_never_made_in_a_lower_precision():
    attached = _attached("ptuning")
    exact = soft.of(attached.model).numbers()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(soft.of(attached.model).numbers(), exact)
