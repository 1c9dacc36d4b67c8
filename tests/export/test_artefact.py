"""Artefacts that are not what was trained are refused."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from tunesmith.adapters import lora
from tunesmith.errors import RunError
from tunesmith.export.artefact import fingerprints, require_moved, require_update
from tunesmith.export.certificate import certify
from tunesmith.models.load import load
from tunesmith.models.resolve import resolve
from tunesmith.testing.tiny import tiny_base


@pytest.fixture
def written(tmp_path):
    """A LoRA adapter on disk, its model in memory, and the weights file."""
    base = load(resolve(str(tiny_base(tmp_path / "base")), None), torch.float32)
    attached = lora.attach(base.model, lora.Config(rank=4), seed=0)
    with torch.no_grad():
        for parameter in attached.trained.values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = tmp_path / "adapter"
    folder.mkdir()
    lora.write(attached, folder, str(tmp_path / "base"))
    return attached, folder, folder / "adapter_model.safetensors"


PROMPTS = [[1, 2, 3], [40, 50, 60, 70]]


def test_what_was_written_answers_as_the_model_does(written):
    attached, folder, _ = written
    certificate = certify(attached.model, folder, PROMPTS)
    assert certificate.ok
    assert certificate.max_logit_difference == 0.0
    assert certificate.equal_greedy_tokens == 1.0


def test_a_changed_number_fails_the_certificate(written):
    attached, folder, path = written
    tensors = load_file(path)
    name = next(n for n in tensors if "lora_B" in n)
    tensors[name] = tensors[name] + 0.05
    save_file(tensors, path, {"format": "pt"})
    assert not certify(attached.model, folder, PROMPTS).ok


def test_an_artefact_that_does_not_load_says_why(written):
    attached, folder, path = written
    path.write_bytes(b"no tensors at all")
    with pytest.raises(RunError, match="an artefact that does not load: "):
        certify(attached.model, folder, PROMPTS)


def test_weights_that_did_not_move_fail_the_run():
    still, moved = {"a": torch.zeros(2)}, {"a": torch.tensor([0.0, 1e-30])}
    with pytest.raises(RunError, match="every one of them unchanged"):
        require_moved(fingerprints(still), fingerprints(still))
    assert require_moved(fingerprints(still), fingerprints(moved)) == []


def test_an_adapter_whose_every_b_is_zero_is_refused(written):
    attached, _, _ = written
    saved = lora.saved(attached)
    require_update(saved)
    outer = [tensor for name, tensor in saved.tensors.items() if "lora_B" in name]
    with torch.no_grad():
        for tensor in outer[1:]:
            tensor.zero_()
    require_update(saved)
    with torch.no_grad():
        outer[0].zero_()
    with pytest.raises(RunError, match="zeros, as in all 14 B of the adapter"):
        require_update(saved)
