"""Every adapter that sits in the layers, on a model with another head than the language model's."""

import pytest
import torch

from tests.adapters.conftest import IDS, attach, move, small
from tests.adapters.test_every_adapter import NAMES
from tunesmith.adapters import base
from tunesmith.export.asked import Asked, of_model
from tunesmith.export.reload import Holding, load_artefact
from tunesmith.models.heads import Head, put, write_beside
from tunesmith.testing.tiny import byte_tokenizer

HEADS = {"scores": Head("scores", ("x", "y")), "states": Head("states", pooling="mean")}


def _moved(name, head):
    model = put(small(), head, byte_tokenizer(), seed=0)
    return move(base.under(attach(base.load(name).Config(), model), head))


def _answers(model, gives):
    asked = Asked(IDS.tolist(), 0, gives=gives)
    return of_model(model, lambda text: [], asked).logits


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gives", ["scores", "mean"])
def test_what_is_saved_answers_alike_where_strangers_load_it(name, gives, tmp_path):
    head = HEADS["scores" if gives == "scores" else "states"]
    start = _answers(put(small(), head, byte_tokenizer(), seed=0), gives)
    attached = _moved(name, head)
    small().save_pretrained(tmp_path / "base")
    folder = tmp_path / "artefact"
    folder.mkdir()
    base.load(name).write(attached, folder, str(tmp_path / "base"))
    write_beside(head, attached.model, folder)
    expected = _answers(attached.model.eval(), gives)
    found = _answers(load_artefact(folder, Holding(torch.float32)), gives)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found, start, atol=1e-4)
