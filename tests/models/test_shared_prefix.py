"""A prefix computed once gives the losses and gradients of computing it for each answer."""

import numpy as np
import pytest
import torch
from torch import nn

from tunesmith.data.collate import collate, collate_groups
from tunesmith.data.example import Example
from tunesmith.engine.precision import lag
from tunesmith.errors import ModelError
from tunesmith.models import fast
from tunesmith.models.kernels import build
from tunesmith.models.policy import Policy
from tunesmith.models.shared_prefix import unshared
from tunesmith.testing.bases import BASES, lora_base, random_base

SHAPES = {
    "pairs": [(12, (5, 9)), (30, (7, 1))],
    "groups and examples": [(6, (4,)), (20, (3, 8, 5, 2)), (9, (6, 6)), (3, (11,))],
    "a long prefix": [(290, (4, 12, 3)), (5, (270, 30))],
}
"""Tokens of each prompt, and of the answers to it."""


def _group(seed, prompt, answers):
    rng = np.random.default_rng(seed)
    start = rng.integers(1, 320, prompt)
    group = []
    for row, length in enumerate(answers, 1):
        # A second turn of the prompt, not trained, in the middle of every longer answer.
        trained = np.arange(prompt + length) >= prompt
        trained[prompt + 3 : prompt + 5] = False
        ids = np.concatenate([start, rng.integers(1, 320, length)]).astype(np.int32)
        group.append(Example(ids, trained, f"group {seed}", row))
    return group


def _groups(shape):
    return [_group(seed, *sizes) for seed, sizes in enumerate(shape)]


def _alone(groups):
    return collate([example for group in groups for example in group], packed=True, pad_id=0)


def _measured(model, kernels, batch):
    """Log-probability of each row, and gradients of a sum that weighs each row otherwise."""
    model.zero_grad(set_to_none=True)
    (fast.lay_over if kernels == "fast" else fast.take_off)(model)
    log_probs = Policy(model, kernels, torch.float32).sequence_log_probs(batch)
    weights = torch.linspace(-1.0, 1.5, len(log_probs))
    (weights * log_probs).sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return log_probs.detach(), gradients


def _require_equal(model, groups):
    """Shared on the fast path, against the same examples on their own in transformers."""
    expected, expected_gradients = _measured(model, "reference", _alone(groups))
    shared = collate_groups(groups, packed=True, pad_id=0)
    for kernels in ("fast", "reference"):
        got, gradients = _measured(model, kernels, shared)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=0)
        assert gradients.keys() == expected_gradients.keys()
        for name, gradient in gradients.items():
            exact = expected_gradients[name]
            assert (gradient - exact).norm() <= 1e-4 * exact.norm(), name


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3", "mistral", "gpt2"])
def test_lora_equals_computing_each_alone(name, shape):
    _require_equal(lora_base(name), _groups(shape))


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_so_it_does_without_compiled_kernels(name, monkeypatch):
    monkeypatch.setattr(build, "library", lambda: None)
    _require_equal(lora_base(name), _groups(SHAPES["a long prefix"]))


@pytest.mark.parametrize("name", BASES)
def test_full_equals_computing_each_alone(name):
    _require_equal(random_base(name), _groups(SHAPES["groups and examples"]))


@pytest.mark.parametrize("size", range(1, 9))
def test_groups_of_any_size(size):
    answers = tuple(3 + 2 * row for row in range(size))
    groups = _groups([(25, answers)])
    batch = collate_groups(groups, packed=True, pad_id=0)
    shared = 25 if size > 1 else 0
    assert batch.num_tokens == _alone(groups).num_tokens - (size - 1) * shared
    _require_equal(lora_base("llama"), groups)


def test_equal_answers_and_an_answer_within_another():
    (group,) = _groups([(10, (6, 6))])
    short = Example(group[0].input_ids[:14], group[0].trained[:14], "rows", 3)
    _require_equal(random_base("llama"), [[group[0], group[0], short, group[1]]])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_unshared_is_the_batch_of_the_examples_alone(shape):
    groups = _groups(shape)
    got, expected = unshared(collate_groups(groups, packed=True, pad_id=0)), _alone(groups)
    for name in ("input_ids", "positions", "places", "targets"):
        assert torch.equal(getattr(got, name), getattr(expected, name)), name
    assert (got.lengths, got.prefixes, got.rows) == (expected.lengths, None, expected.rows)


def test_the_loss_is_the_sum_over_all_rows():
    policy = Policy(lora_base("llama"), "fast", torch.float32)
    batch = collate_groups(_groups(SHAPES["pairs"]), packed=True, pad_id=0)
    torch.testing.assert_close(
        policy.loss_sum(batch), -policy.sequence_log_probs(batch).sum(), rtol=1e-5, atol=0
    )


def test_a_row_that_trains_nothing_has_a_log_probability_of_zero():
    (group,) = _groups([(10, (4, 6))])
    nothing = Example(group[1].input_ids, np.zeros(16, dtype=bool), "rows", 2)
    batch = collate_groups([[group[0], nothing]], packed=True, pad_id=0)
    log_probs = Policy(random_base("llama"), "fast", torch.float32).sequence_log_probs(batch)
    assert log_probs[0] < 0
    assert log_probs[1] == 0


def test_padded_rows_agree_too():
    groups = _groups(SHAPES["pairs"])
    model = random_base("llama")
    got, _ = _measured(model, "fast", collate_groups(groups, packed=False, pad_id=0))
    expected, _ = _measured(model, "fast", collate_groups(groups, packed=True, pad_id=0))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["lora", "attention", "residual"])
def test_dropout_is_refused_while_it_drops(kind):
    if kind == "lora":
        model = lora_base("llama", lora_dropout=0.1)
    else:
        model = random_base("llama" if kind == "attention" else "gpt2")
    if kind == "attention":
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.1
    groups, policy = _groups(SHAPES["pairs"]), Policy(model, "fast", torch.float32)
    shared = collate_groups(groups, packed=True, pad_id=0)
    model.train()
    with pytest.raises(ModelError, match=r"dropout of 0\.1 with a prefix.*\nhint: set the dropout"):
        policy.token_nll(shared)
    policy.token_nll(_alone(groups))
    model.eval()
    policy.token_nll(shared)


@pytest.mark.slow
def test_bf16_on_the_starter_is_as_close_to_fp32_as_unshared(starter):
    """Gradients of LoRA; rounding differs, so each is held against exact ones."""
    if lag("bf16", torch.device("cpu")) > 3:
        pytest.skip("bf16 is emulated here, which takes minutes")
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    groups = _groups([(60, (20, 30)), (90, (15, 25, 10, 20))])
    batches = {
        "shared": collate_groups(groups, packed=True, pad_id=0),
        "alone": _alone(groups),
    }

    def gradients(dtype, batch):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(starter, dtype=dtype).requires_grad_(False)
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.01)
        fast.lay_over(model)
        log_probs = Policy(model, "fast", dtype).sequence_log_probs(batch)
        (torch.linspace(-1.0, 1.5, len(log_probs)) * log_probs).sum().backward()
        found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        return log_probs.detach(), found

    exact, exact_gradients = gradients(torch.float32, batches["alone"])
    off, far = {}, {}
    for name, batch in batches.items():
        log_probs, found = gradients(torch.bfloat16, batch)
        off[name] = ((log_probs - exact) / exact).abs().max().item()
        far[name] = ((found - exact_gradients).norm() / exact_gradients.norm()).item()
    assert off["shared"] < 0.01
    assert far["shared"] < 1.2 * far["alone"]
