"""A file of weights stays mapped only while most of it is read in place."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.models import fast
from tunesmith.models.load import load
from tunesmith.models.mapped import let_go
from tunesmith.models.policy import Policy
from tunesmith.models.resolve import resolve
from tunesmith.testing.tiny import tiny_base

MAPS = Path("/proc/self/maps")

pytestmark = pytest.mark.skipif(not MAPS.exists(), reason="no list of mapped files here")


@pytest.fixture
def base(tmp_path):
    tiny_base(tmp_path)
    return resolve(str(tmp_path), None)


def _is_mapped(base):
    return str(base.path) in MAPS.read_text()


def _tied(model):
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


def _run(model):
    """A pass, in which every layer reads its weight anew."""
    ids = np.arange(9, dtype=np.int32)
    batch = collate([Example(ids, ids > 0, "rows.jsonl", 0)], packed=True, pad_id=0)
    return Policy(model, "fast", torch.float32).loss_sum(batch)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_quantised_base_keeps_no_file(base, kind):
    if kind == "nf4":
        pytest.importorskip("bitsandbytes", reason="nf4 needs the extra `quant`")
    model = load(base, torch.float32, kind).model
    assert not _is_mapped(base)
    assert _tied(model)


def test_a_base_whose_weights_were_laid_together_keeps_no_file(base):
    model = load(base, torch.float32).model
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    fast.lay_over(model)
    loss = _run(model)
    assert _is_mapped(base)
    let_go(model)
    assert _run(model) == loss
    assert not _is_mapped(base)
    assert _tied(model)
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_a_base_that_is_read_in_place_stays_there(base):
    model = load(base, torch.float32).model
    addresses = [weight.data_ptr() for weight in model.parameters()]
    let_go(model)
    assert addresses == [weight.data_ptr() for weight in model.parameters()]
    assert _is_mapped(base)
