"""What holds for every method that puts another head on the model."""

import numpy as np
import pytest
import torch

from tests.methods.example_rows import rows_for
from tunesmith.adapters import base as adapters
from tunesmith.data.collate import collate
from tunesmith.data.encoded import Encoded
from tunesmith.data.example import Example
from tunesmith.data.shapes import detect, load
from tunesmith.data.template import Renderer
from tunesmith.methods import base
from tunesmith.models.heads import put
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import IM_END, PAD, byte_tokenizer, tiny_model

KEYS = {"classify": {"labels": ["x", "y"]}}
"""What `settle` would find in the rows."""
SOFT = [None, "prompt", "prefix", "ptuning"]
"""Adapters of virtual tokens; None trains all weights."""
METHODS = [name for name in base.names() if hasattr(base.load(name), "head")]


@pytest.fixture(params=METHODS)
def method(request):
    return base.load(request.param)


def _config(method):
    name = method.__name__.rpartition(".")[2]
    return method.Config(**KEYS.get(name, {}))


def _examples(method):
    renderer = Renderer(byte_tokenizer(), frozenset({IM_END}))
    encoder = method.encoder(renderer, _config(method))
    (shape,) = encoder.shapes
    rows = rows_for(encoder.shapes)[:3]
    assert all(detect(row, encoder.shapes) == shape for row in rows)
    encoded = [one for row in rows for one in encoder.examples(load(shape).read(row))]
    return [_example(one, number) for number, one in enumerate(encoded, 1)]


def _example(one: Encoded, number: int) -> Example:
    numbers = {name: np.array([value], dtype=np.float32) for name, value in one.numbers.items()}
    return Example(one.input_ids, one.trained, "f", number, one.parts, numbers)


def _policy(method, kernels="fast", soft=None):
    language, head = tiny_model(seed=0), method.head(_config(method))
    model = put(language, head, byte_tokenizer(), seed=0)
    if soft is None:
        model.requires_grad_(True)
    else:
        config = adapters.load(soft).Config(virtual_tokens=5)
        adapters.under(adapters.attach(config, model, 1), head)
    return Policy(model, kernels, torch.float32, language)


def _loss(method, examples, packed=True, kernels="fast", soft=None):
    policy = _policy(method, kernels, soft)
    found = method.loss(policy, collate(examples, packed, PAD), _config(method))
    found.total.backward()
    gradients = {n: p.grad for n, p in policy.model.named_parameters() if p.grad is not None}
    return found, gradients


def test_the_file_defines_what_a_method_is(method):
    assert method.Config().name == method.__name__.rpartition(".")[2]
    assert "arXiv" in method.__doc__
    assert all(not one.trained.any() for one in _examples(method))


def test_the_loss_is_a_sum_and_its_gradient_reaches_the_head_and_the_blocks(method):
    found, gradients = _loss(method, _examples(method))
    assert found.count == 3
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    moved = {name for name, gradient in gradients.items() if gradient.any()}
    assert any("layers.0.mlp" in name for name in moved)
    assert "score.weight" in moved or method.head(_config(method)).gives == "states"


@pytest.mark.parametrize("soft", SOFT[1:])
def test_with_virtual_tokens_its_gradient_reaches_them_and_the_head_alone(method, soft):
    _, gradients = _loss(method, _examples(method), soft=soft)
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert all(gradient.any() for gradient in gradients.values())
    gives = method.head(_config(method)).gives
    head = {"score.modules_to_save.default.weight"} if gives == "scores" else set()
    assert {n for n in gradients if not n.startswith("soft_prompt.")} == head
    assert "soft_prompt.encoder.embedding.weight" in gradients


@pytest.mark.parametrize("soft", SOFT)
@pytest.mark.parametrize(("packed", "kernels"), [(False, "fast"), (True, "reference")])
def test_packing_and_kernels_do_not_matter(method, packed, kernels, soft):
    expected, wanted = _loss(method, _examples(method), soft=soft)
    found, gradients = _loss(method, _examples(method), packed, kernels, soft)
    assert found.total.item() == pytest.approx(expected.total.item(), rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("soft", SOFT)
def test_what_is_measured_are_numbers_of_each_row(method, soft):
    policy, examples = _policy(method, soft=soft), _examples(method)
    with torch.no_grad():
        found = method.measure(policy, collate(examples, True, PAD), _config(method))
    assert all(len(values) == 3 for values in found.values())
    assert found["loss"].sum().item() == pytest.approx(
        _loss(method, examples, soft=soft)[0].total.item()
    )
