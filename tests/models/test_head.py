"""The fused head and loss equal cross entropy over all logits."""

import math

import pytest
import torch
import torch.nn.functional as F

from tunesmith.models import head


def _inputs(n=1500, vocab=97, width=24, dtype=torch.float32):
    torch.manual_seed(0)
    hidden = torch.randn(n, width, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocab, width, dtype=dtype, requires_grad=True)
    return hidden, weight, torch.randint(0, vocab, (n,))


def test_loss_by_hand():
    # Logits [0, ln 3] give probabilities 1/4 and 3/4.
    hidden = torch.tensor([[1.0]], requires_grad=True)
    weight = torch.tensor([[0.0], [math.log(3.0)]])
    loss = head.losses(hidden, weight, torch.tensor([1]))[0]
    assert loss.item() == pytest.approx(-math.log(0.75), abs=1e-6)
    loss.backward()
    # d loss / d hidden = sum_v (p_v - y_v) w_v = 3/4 ln 3 - ln 3.
    assert hidden.grad.item() == pytest.approx(-0.25 * math.log(3.0), abs=1e-6)


def test_loss_and_gradients_equal_cross_entropy_over_several_chunks():
    hidden, weight, targets = _inputs()
    loss = head.losses(hidden, weight, targets)[0]
    expected = F.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    torch.testing.assert_close(loss, expected)
    got = torch.autograd.grad(loss * 0.5, (hidden, weight))
    want = torch.autograd.grad(expected * 0.5, (hidden, weight))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("gib", "vocabulary", "expected"),
    [
        # 80 GiB / 64 = 1,342,177,280 bytes; / 1,282,560 = 1,046 positions.
        (80, 128_256, 1024),
        # 141 GiB / 64 = 2,365,587,456 bytes; / 1,519,360 = 1,556 positions.
        (141, 151_936, 1536),
        # 8 GiB / 64 = 134,217,728 bytes; / 2,560,000 = 52 positions.
        (8, 256_000, 256),
    ],
)
def test_chunk_of_a_gpu_by_hand(gib, vocabulary, expected):
    assert head.chunk_of(gib << 30, vocabulary) == expected


@pytest.mark.parametrize("size", [7, 600, 1000])
def test_the_size_of_a_chunk_changes_nothing(size, monkeypatch):
    hidden, weight, targets = _inputs()
    expected = torch.autograd.grad(head.losses(hidden, weight, targets)[0], (hidden, weight))
    monkeypatch.setattr(head, "CHUNK", size)
    got = torch.autograd.grad(head.losses(hidden, weight, targets)[0], (hidden, weight))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_frozen_head_gets_no_gradient():
    hidden, weight, targets = _inputs()
    head.losses(hidden, weight.detach(), targets)[0].backward()
    assert weight.grad is None
    assert hidden.grad is not None


def test_no_labelled_position_gives_zero_with_a_zero_gradient():
    hidden, weight, _ = _inputs(n=0)
    loss = head.losses(hidden, weight, torch.zeros(0, dtype=torch.long))[0]
    loss.backward()
    assert loss.item() == 0.0
    assert weight.grad.abs().sum().item() == 0.0


def test_bf16_stays_close_to_fp32():
    hidden, weight, targets = _inputs(dtype=torch.bfloat16)
    loss = head.losses(hidden, weight, targets)[0]
    expected = F.cross_entropy(hidden.float() @ weight.float().t(), targets, reduction="sum")
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=5e-3)


def test_autocast_lowers_trained_fp32_weights():
    hidden, weight, targets = _inputs()
    with torch.autocast("cpu", torch.bfloat16):
        loss = head.losses(hidden, weight, targets)[0]
    loss.backward()
    assert weight.grad.dtype == torch.float32
    expected = F.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    assert loss.item() == pytest.approx(expected.item(), rel=5e-3)


def test_token_nll_and_log_probabilities_agree_with_the_loss():
    hidden, weight, targets = _inputs()
    nll = head.token_nll(hidden, weight, targets)
    assert nll.shape == (1500,)
    torch.testing.assert_close(nll.sum(), head.losses(hidden, weight, targets)[0].detach())
    log_probs = head.log_probabilities(hidden[:5], weight)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(5))


def test_log_probs_of_some_tokens_and_their_gradients(monkeypatch):
    monkeypatch.setattr(head, "CHUNK", 400)
    hidden, weight, _ = _inputs()
    ids = torch.stack([torch.randperm(97)[:5] for _ in range(len(hidden))])
    factors = torch.randn(ids.shape)
    got = head.log_probs_at(hidden, weight, ids)
    expected = torch.log_softmax(hidden @ weight.t(), -1).gather(1, ids)
    torch.testing.assert_close(got, expected)
    ours = torch.autograd.grad((got * factors).sum(), (hidden, weight))
    theirs = torch.autograd.grad((expected * factors).sum(), (hidden, weight))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_smoothing_and_factors_by_hand():
    # Probabilities 1/4 and 3/4, target 1, a tenth spread over both: 0.95 and 0.05.
    hidden = torch.tensor([[1.0]], requires_grad=True)
    weight = torch.tensor([[0.0], [math.log(3.0)]])
    total, each = head.losses(hidden, weight, torch.tensor([1]), torch.tensor([2.0]), 0.1)
    expected = -0.95 * math.log(0.75) - 0.05 * math.log(0.25)
    assert each.tolist() == pytest.approx([expected], abs=1e-6)
    assert total.item() == pytest.approx(2 * expected, abs=1e-6)
    total.backward()
    # 2 sum_v (p_v - q_v) w_v = 2 (0.75 - 0.95) ln 3.
    assert hidden.grad.item() == pytest.approx(-0.4 * math.log(3.0), abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("trained_head", [True, False])
def test_smoothed_weighted_loss_equals_torch(smoothing, trained_head):
    hidden, weight, targets = _inputs()
    factors = torch.rand(len(targets))
    weight.requires_grad_(trained_head)
    total, each = head.losses(hidden, weight, targets, factors, smoothing)
    logits = hidden @ weight.t()
    want = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(each, want.detach())
    torch.testing.assert_close(total, want @ factors)
    parts = (hidden, weight) if trained_head else (hidden,)
    got = torch.autograd.grad(total * 0.5, parts)
    torch.testing.assert_close(
        got, torch.autograd.grad(want @ factors * 0.5, parts), rtol=1e-4, atol=1e-4
    )


def test_smoothing_in_bf16_stays_close_to_fp32():
    hidden, weight, targets = _inputs(dtype=torch.bfloat16)
    total, _ = head.losses(hidden, weight, targets, None, 0.1)
    total.backward()
    wide = hidden.detach().float().requires_grad_()
    logits = wide @ weight.detach().float().t()
    F.cross_entropy(logits, targets, reduction="sum", label_smoothing=0.1).backward()
    torch.testing.assert_close(hidden.grad.float(), wide.grad, rtol=5e-2, atol=5e-2)
