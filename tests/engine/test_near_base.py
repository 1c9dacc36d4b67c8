"""The KL to the base: by hand, at the start, its gradient, and for methods that count pairs."""

from math import log

import numpy as np
import pytest
import torch

from tunesmith.adapters import lora
from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.engine.near_base import NearBase, weighed
from tunesmith.methods import sft
from tunesmith.methods.base import LossSum
from tunesmith.models import base_kl, fast
from tunesmith.models.base_kl import token_kl
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import tiny_model


def test_two_tokens_by_hand():
    base = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
    now = torch.tensor([[0.25, 0.75], [0.9, 0.1]]).log()
    found = token_kl(now, base, None)
    assert found.tolist() == pytest.approx([0.5 * log(2) + 0.5 * log(0.5 / 0.75), 0.0], abs=1e-6)


def test_through_a_head_in_chunks_with_its_gradient(monkeypatch):
    monkeypatch.setattr(base_kl, "CHUNK", 2)
    torch.manual_seed(0)
    head = torch.randn(11, 4, requires_grad=True)
    now, base = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4)
    kl = token_kl(now, base, head)
    kl.sum().backward()
    got = now.grad.clone(), head.grad.clone()
    now.grad = head.grad = None
    p = torch.softmax(base @ head.detach().t(), -1)
    expected = (p * (p.log() - torch.log_softmax(now @ head.t(), -1))).sum(-1)
    expected.sum().backward()
    torch.testing.assert_close(kl, expected)
    torch.testing.assert_close(got[0], now.grad)
    torch.testing.assert_close(got[1], head.grad)
    assert token_kl(now[:0], base[:0], head).shape == (0,)


@pytest.mark.parametrize(("count", "expected"), [(4, 16.0), (1, 6.0), (2, 12.0)])
def test_the_term_of_what_a_method_counts(count, expected):
    # Four tokens: their sum. Else means of 2 and 10 in two sequences; one pair of both has 6.
    found = weighed(torch.tensor([1.0, 2.0, 3.0, 10.0]), (3, 0, 1), count)
    assert found.item() == pytest.approx(expected)


def test_a_batch_without_targets_has_no_term():
    assert weighed(torch.zeros(0), (0, 0), 2).item() == 0.0


def _examples():
    rng = np.random.default_rng(0)
    return [
        Example(rng.integers(0, 256, n).astype(np.int32), np.arange(n) >= n // 2, "rows.jsonl", n)
        for n in (12, 5, 30)
    ]


@pytest.fixture(params=["fast", "reference"])
def learner(request):
    attached = lora.attach(tiny_model(), lora.Config(rank=4), seed=0)
    if request.param == "fast":
        fast.lay_over(attached.model)
    return attached, Policy(attached.model, request.param, torch.float32)


def _loss(learner, weight):
    attached, policy = learner
    return NearBase(
        lambda batch: sft.loss(policy, batch, sft.Config()), policy, attached.disabled, weight
    )


@pytest.mark.parametrize("packed", [True, False])
def test_it_is_zero_at_the_start_and_the_sum_over_tokens_later(learner, packed):
    attached, policy = learner
    batch, loss = collate(_examples(), packed, 0), _loss(learner, 0.5)
    plain = sft.loss(policy, batch, sft.Config())
    first = loss(batch)
    torch.testing.assert_close(first.total, plain.total)
    assert first.figures["kl_to_base"][0].item() == pytest.approx(0.0, abs=1e-4)

    with torch.no_grad():
        for name, parameter in attached.trained.items():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    with attached.disabled():
        base = policy.log_probs_of(policy.features(batch))
    now = policy.log_probs_of(policy.features(batch))
    expected = (base.exp() * (base - now)).sum()
    assert expected > 0.1
    found, plain = loss(batch), sft.loss(policy, batch, sft.Config())
    torch.testing.assert_close(found.total, plain.total + 0.5 * expected, rtol=1e-4, atol=1e-4)
    kl, number = found.figures["kl_to_base"]
    assert (kl.item(), number) == (pytest.approx(expected.item(), rel=1e-4), plain.count)
    found.total.backward()
    assert all(p.grad is not None for p in attached.trained.values())


def test_splitting_a_batch_adds_up_to_the_whole(learner):
    examples = _examples()
    with torch.no_grad():
        for parameter in learner[0].trained.values():
            parameter.normal_(0, 0.05)
    loss = _loss(learner, 2.0)
    whole = loss(collate(examples, True, 0))
    parts = [loss(collate([each], True, 0)) for each in examples]
    torch.testing.assert_close(sum(p.total for p in parts), whole.total, rtol=1e-4, atol=1e-3)
    assert sum(p.count for p in parts) == whole.count


def test_figures_of_the_method_stay(learner):
    attached, policy = learner
    told = {"margin": (torch.tensor(1.0), 1)}
    loss = NearBase(lambda b: LossSum(torch.zeros(()), 1, told), policy, attached.disabled, 1.0)
    assert set(loss(collate(_examples(), True, 0)).figures) == {"margin", "kl_to_base"}
