"""What holds for every adapter in the folder."""

import pytest
import torch

from tunesmith.adapters import base
from tunesmith.testing.tiny import tiny_model


@pytest.fixture(params=base.names())
def adapter(request):
    return base.load(request.param)


def test_the_file_defines_what_an_adapter_is(adapter):
    config = adapter.Config()
    assert config.name == adapter.__name__.rpartition(".")[2]
    assert adapter.LEARNING_RATE > 0
    assert adapter.FOLDER in {"adapter", "model"}
    assert "arXiv" in (adapter.__doc__ or "") or "fine-tuning" in adapter.__doc__


def test_attaching_changes_no_answer_and_trains_fp32(adapter):
    ids = torch.arange(12)[None]
    model = tiny_model(seed=0)
    before = model(input_ids=ids).logits.detach()
    attached = adapter.attach(model, adapter.Config(), seed=1)
    now = attached.model(input_ids=ids).logits.detach()
    # Virtual tokens are read from the start, whatever they are.
    changed = base.virtual_tokens(adapter.Config()) > 0
    assert torch.allclose(now, before, rtol=1e-5, atol=1e-5) != changed
    if attached.disabled:
        with attached.disabled():
            torch.testing.assert_close(attached.model(input_ids=ids).logits.detach(), before)
    assert attached.trained
    assert {p.dtype for p in attached.trained.values()} == {torch.float32}
    assert 0 < attached.share <= 1
    assert attached.targeted


def test_one_step_moves_every_trained_parameter_that_has_a_gradient(adapter):
    attached = adapter.attach(tiny_model(seed=0), adapter.Config(), seed=1)
    ids = torch.arange(12)[None]
    attached.model(input_ids=ids, labels=ids).loss.backward()
    assert all(p.grad is not None for p in attached.trained.values())


def test_the_start_is_a_function_of_the_seed(adapter):
    def start(seed):
        attached = adapter.attach(tiny_model(seed=0), adapter.Config(), seed)
        return {n: p.detach().clone() for n, p in attached.trained.items()}

    first, second = start(3), start(3)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_only_trained_parameters_require_a_gradient(adapter):
    attached = adapter.attach(tiny_model(seed=0), adapter.Config(), seed=0)
    wanted = {n for n, p in attached.model.named_parameters() if p.requires_grad}
    assert wanted == set(attached.trained)


def test_what_is_written_is_safetensors_only(adapter, tmp_path):
    attached = adapter.attach(tiny_model(seed=0), adapter.Config(), seed=0)
    adapter.write(attached, tmp_path, "some/base")
    names = {p.name for p in tmp_path.iterdir()}
    assert any(name.endswith(".safetensors") for name in names)
    assert not [n for n in names if n.endswith((".bin", ".pt", ".pth", ".pkl"))]
