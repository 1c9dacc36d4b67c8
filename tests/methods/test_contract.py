"""What holds for every method in the folder, on examples that its own encoder makes.

Methods with another head than the language model's: test_heads_contract.py.
"""

from types import ModuleType

import numpy as np
import pytest
import torch

from tests.methods.example_rows import needed_keys, rows_for
from tunesmith.config.section import Section
from tunesmith.data import shapes
from tunesmith.data.collate import collate
from tunesmith.data.example import Batch, Example
from tunesmith.data.template import Renderer
from tunesmith.methods import base
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import IM_END, PAD, byte_tokenizer, tiny_model

PLAIN = [
    name
    for name in base.names()
    if "sampler" not in base.load(name).NEEDS and not hasattr(base.load(name), "head")
]
"""Methods whose examples are rows; those that draw them are in `test_policy_values.py`."""


@pytest.fixture(scope="module", params=PLAIN)
def method(request):
    return base.load(request.param)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(byte_tokenizer(), frozenset({IM_END}), max_tokens=200)


@pytest.fixture(scope="module")
def examples(method: ModuleType, renderer: Renderer) -> list[Example]:
    """Rows encoded; with the reference of a model that has since moved, where one is needed."""
    encoder = method.encoder(renderer, _config(method))
    rows = rows_for(frozenset(encoder.shapes))
    contents = [shapes.load(shapes.detect(row, encoder.shapes)).read(row) for row in rows]
    encoder.look_ahead(contents)
    found = []
    for number, content in enumerate(contents, 1):
        for one in encoder.examples(content):
            numbers = {name: np.float32([value]) for name, value in one.numbers.items()}
            example = Example(one.input_ids, one.trained, "f", number, one.parts, numbers)
            found.append(example)
    if "reference" in method.NEEDS:
        _add_reference(found)
    if "teacher" in method.NEEDS:
        _add_teacher(found)
    return found


@pytest.fixture(scope="module")
def whole(method: ModuleType, examples: list[Example]) -> tuple:
    """The step in one packed pass."""
    return _step(method, [examples])


def _config(method: ModuleType) -> Section:
    return method.Config(**needed_keys(method.Config))


def _policy(seed: int = 0, kernels: str = "fast") -> Policy:
    return Policy(tiny_model(seed=seed), kernels, torch.float32)


@torch.no_grad()
def _add_reference(examples: list[Example]) -> None:
    batch = collate(examples, True, PAD)
    told = _policy(seed=1).sequence_log_probs(batch).split(batch.units)
    for example, values in zip(examples, told, strict=True):
        example.numbers["reference"] = values.numpy()


def _add_teacher(examples: list[Example]) -> None:
    rng = np.random.default_rng(0)
    for example in examples:
        shape = (int(example.trained.sum()), 3)
        example.numbers["teacher_ids"] = np.tile(np.float32([7, 70, 170]), (shape[0], 1))
        example.numbers["teacher_log_probs"] = -1.5 - rng.random(shape, dtype=np.float32)


def _step(method, passes: list[list[Example]], packed=True, policy: Policy | None = None):
    """Total, count and gradient of a step that is cut into these passes."""
    policy, config = policy or _policy(), _config(method)
    batches: list[Batch] = [collate(examples, packed, PAD) for examples in passes]
    if hasattr(method, "ahead"):
        batches = base.informed(lambda batch: method.ahead(policy, batch, config), batches)
    total, count = 0.0, 0
    for batch in batches:
        found = method.loss(policy, batch, config)
        found.total.backward()
        total, count = total + found.total.item(), count + found.count
    gradient = torch.cat([p.grad.flatten() for p in policy.model.parameters()])
    return total, count, gradient


def _same(found, expected) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-5, abs=1e-5)
    assert found[1] == expected[1]
    torch.testing.assert_close(found[2], expected[2], rtol=1e-3, atol=1e-4)


def test_the_file_defines_what_a_method_is(method):
    assert _config(method).name == method.__name__.rpartition(".")[2]
    assert {"reference", "sampler", "reward", "teacher"} >= method.NEEDS
    assert "arXiv" in method.__doc__


def test_loss_and_gradient_are_finite_and_not_all_zero(whole):
    total, count, gradient = whole
    assert np.isfinite(total)
    assert count > 0
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_the_loss_is_a_sum(method, examples, whole):
    _same(_step(method, [examples * 2]), tuple(2 * part for part in whole))


def test_packing_and_padding_do_not_matter(method, examples, whole):
    _same(_step(method, [examples], packed=False), whole)


def test_the_cut_into_passes_does_not_matter(method, examples, whole):
    _same(_step(method, [[e] for e in examples]), whole)


def test_the_order_does_not_matter(method, examples, whole):
    _same(_step(method, [examples[::-1]]), whole)


def test_the_fast_path_is_the_reference_path(method, examples, whole):
    _same(whole, _step(method, [examples], policy=_policy(kernels="reference")))


def test_figures_are_the_same_of_every_batch_and_finite(method, examples):
    policy, config = _policy(), _config(method)
    cut = (examples[:1], examples[1:])
    told = [method.loss(policy, collate(part, True, PAD), config).figures for part in cut]
    assert all(figures.keys() == told[0].keys() for figures in told)
    values = [value for figures in told for value, _ in figures.values()]
    assert all(value.isfinite() and not value.requires_grad for value in values)


def test_what_is_measured_of_each_example_adds_up_to_the_loss(method, examples):
    if not hasattr(method, "measure"):
        pytest.skip("held-out rows are measured by the loss of their tokens")
    policy, config = _policy(), _config(method)
    batch = collate(examples, True, PAD)
    found = method.measure(policy, batch, config)
    assert {len(values) for values in found.values()} == {len(examples)}
    expected = method.loss(policy, batch, config).total.item()
    assert found["loss"].sum().item() == pytest.approx(expected, rel=1e-6)


def test_a_sequence_of_one_trained_token(method, examples):
    short = []
    for example in examples[:2]:
        trained = np.zeros_like(example.trained)
        ends = np.cumsum(example.parts or (len(example),))
        trained[[np.flatnonzero(example.trained[:end])[-1] for end in ends]] = True
        # What a teacher says stands beside each trained token.
        of_tokens = trained[example.trained]
        numbers = {
            name: values[of_tokens] if name.startswith("teacher") else values
            for name, values in example.numbers.items()
        }
        short.append(Example(example.input_ids, trained, "f", 1, example.parts, numbers))
    total, _, gradient = _step(method, [short])
    assert np.isfinite(total)
    assert gradient.isfinite().all()
