"""Every adapter, on a model with another head than the language model's."""

import pytest
import torch
from transformers import AutoModel

from tests.adapters.conftest import IDS, attach, move, small
from tunesmith.adapters import base
from tunesmith.errors import RecipeError
from tunesmith.export.asked import Asked, of_model
from tunesmith.export.reload import Holding, load_artefact
from tunesmith.models.heads import Head, pooling_of, put, write_beside
from tunesmith.testing.tiny import byte_tokenizer

HEADS = {"scores": Head("scores", ("x", "y")), "states": Head("states", pooling="mean")}


def _moved(name, head):
    model = put(small(), head, byte_tokenizer(), seed=0)
    return move(base.under(attach(base.load(name).Config(), model), head))


def _answers(model, gives):
    asked = Asked(IDS.tolist(), 0, gives=gives)
    return of_model(model, lambda text: [], asked).logits


@pytest.mark.parametrize("name", base.names())
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


@pytest.mark.parametrize("name", ["prompt", "prefix"])
def test_a_head_goes_on_with_its_virtual_tokens(name, tmp_path):
    adapter, head = base.load(name), HEADS["scores"]
    attached = _moved(name, head)
    adapter.write(attached, tmp_path, "some/base")
    model = put(small(), head, byte_tokenizer(), seed=5)
    config = adapter.Config.model_validate({"from": str(tmp_path)})
    again = base.under(attach(config, model, seed=2), head)
    assert again.continued
    expected = _answers(attached.model.eval(), "scores")
    assert torch.equal(_answers(again.model.eval(), "scores"), expected)
    with pytest.raises(RecipeError, match="task_type: SEQ_CLS there, CAUSAL_LM here"):
        attach(config)


@pytest.mark.parametrize("name", ["prompt", "prefix", "ptuning"])
def test_beside_virtual_tokens_nothing_says_that_sentence_transformers_loads(name, tmp_path):
    """It hands an adapter to transformers, which refuses them."""
    attached = _moved(name, HEADS["states"])
    small().save_pretrained(tmp_path / "base")
    base.load(name).write(attached, tmp_path, str(tmp_path / "base"))
    write_beside(HEADS["states"], attached.model, tmp_path)
    assert pooling_of(tmp_path) == "mean"
    assert not (tmp_path / "modules.json").exists()
    with pytest.raises(ValueError, match="does not support prompt learning"):
        AutoModel.from_pretrained(tmp_path)
