"""A pack gives the same losses and gradients as its examples alone, on every path."""

import numpy as np
import pytest
import torch

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import tiny_model


def _examples(count=4):
    rng = np.random.default_rng(0)
    out = []
    for row, length in enumerate((12, 5, 30, 8)[:count]):
        trained = np.arange(length) >= length // 2
        ids = rng.integers(0, 256, length).astype(np.int32)
        out.append(Example(ids, trained, "rows.jsonl", row + 1))
    return out


def _loss_and_gradients(kernels, packed, groups):
    model = tiny_model(seed=0)
    policy = Policy(model, kernels, torch.float32)
    total = torch.zeros(())
    for group in groups:
        part = policy.loss_sum(collate(group, packed=packed, pad_id=0))
        part.backward()
        total += part.detach()
    return total, {n: p.grad for n, p in model.named_parameters()}


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("packed", [True, False])
def test_packed_padded_and_alone_agree(kernels, packed):
    examples = _examples()
    alone, alone_gradients = _loss_and_gradients("reference", False, [[e] for e in examples])
    got, gradients = _loss_and_gradients(kernels, packed, [examples])
    torch.testing.assert_close(got, alone, rtol=1e-5, atol=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, alone_gradients[name], rtol=1e-3, atol=1e-4)


def test_splitting_a_batch_adds_up_to_the_whole():
    examples = _examples()
    whole, _ = _loss_and_gradients("fast", True, [examples])
    parts, _ = _loss_and_gradients("fast", True, [examples[:1], examples[1:]])
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_token_nll_adds_up_to_the_loss(kernels):
    policy = Policy(tiny_model(seed=0), kernels, torch.float32)
    batch = collate(_examples(), packed=True, pad_id=0)
    nll = policy.token_nll(batch)
    assert nll.shape == (batch.num_trained,)
    torch.testing.assert_close(nll.sum(), policy.loss_sum(batch).detach(), rtol=1e-5, atol=1e-4)


def test_features_give_the_log_probabilities_of_the_targets():
    policy = Policy(tiny_model(seed=0), "fast", torch.float32)
    batch = collate(_examples(), packed=True, pad_id=0)
    log_probs = policy.log_probs_of(policy.features(batch))
    got = -log_probs.gather(1, batch.targets[:, None]).squeeze(1)
    torch.testing.assert_close(got, policy.token_nll(batch), rtol=1e-5, atol=1e-5)


def test_a_head_that_does_more_than_a_product_is_noticed():
    model = tiny_model(seed=0)
    assert Policy(model, "fast", torch.float32).fast_head
    model.lm_head.register_forward_hook(lambda module, args, out: torch.tanh(out))
    assert not Policy(model, "fast", torch.float32).fast_head


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("packed", [True, False])
def test_temperature_divides_the_logits(kernels, packed):
    policy = Policy(tiny_model(seed=0), kernels, torch.float32)
    batch = collate(_examples(), packed=packed, pad_id=0)
    single = collate(_examples(1), packed=True, pad_id=0)
    ids = single.input_ids
    with torch.no_grad():
        logits = policy.model(input_ids=ids).logits[0, single.places] / 0.5
        expected = torch.nn.functional.cross_entropy(logits, single.targets, reduction="none")
        found = policy.token_nll(batch, 0.5)
    torch.testing.assert_close(found[: len(expected)], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_states_are_those_the_tokens_are_predicted_from(kernels):
    policy = Policy(tiny_model(seed=0), kernels, torch.float32)
    batch = collate(_examples(), packed=True, pad_id=0)
    nll, states = policy.nll_and_states(batch, 0.7)
    torch.testing.assert_close(nll, policy.token_nll(batch, 0.7), rtol=1e-5, atol=1e-5)
    assert states.dtype is torch.float32
    logits = (states @ policy.head.t().float()) / 0.7
    again = torch.nn.functional.cross_entropy(logits, batch.targets, reduction="none")
    torch.testing.assert_close(again, nll, rtol=1e-4, atol=1e-4)
    states.sum().backward()
    assert policy.model.get_input_embeddings().weight.grad.abs().max() > 0
