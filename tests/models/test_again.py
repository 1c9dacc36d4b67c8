"""What the backward pass makes again is not kept, and comes out with the same bits."""

import gc
import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.models import fast
from tunesmith.models.again import carrying, kept
from tunesmith.models.kernels.gate import gated
from tunesmith.models.kernels.norm import rms_norm
from tunesmith.models.linear import Projection
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import tiny_model

TOKENS = 37


def _kept(model):
    """How many tensors of each shape a pass of one example keeps, weights apart."""
    ids = np.arange(TOKENS, dtype=np.int32)
    batch = collate([Example(ids, ids > 0, "rows.jsonl", 0)], packed=True, pad_id=0)
    fast.lay_over(model)
    found = {}

    def keep(tensor):
        found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        Policy(model, "fast", torch.float32).loss_sum(batch)
    return Counter(tuple(tensor.squeeze(0).shape) for tensor in found.values())


def test_of_a_layer_only_inputs_are_kept_that_nothing_gives_again():
    model = tiny_model().requires_grad_(False)
    get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    shapes, config = _kept(model), model.config
    layers, width, inner = config.num_hidden_layers, config.hidden_size, config.intermediate_size
    assert shapes[TOKENS, inner] == 0
    assert shapes[TOKENS, 2 * inner] == layers
    # Before the first norm, before the second, and what attention saw; the head's is of one less.
    assert shapes[TOKENS, width] == 3 * layers + 1


def test_a_frozen_layer_without_an_adapter_keeps_nothing():
    layer, found = torch.nn.Linear(64, 32).requires_grad_(False), []
    x = torch.ones(5, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(found.append, lambda tensor: tensor):
        y = Projection([layer])(x * 1.5, torch.float32)
    assert y.requires_grad
    assert not any(tensor.shape == x.shape for tensor in found if tensor is not None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("into", [torch.float32, torch.bfloat16])
def test_made_again_it_has_the_same_bits(dtype, into):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 5, 64).to(dtype), torch.randn(64)
    for y in (rms_norm(x, weight, 1e-5), gated(x, "silu"), gated(x, "gelu"), x):
        again = kept(y, y.shape[-1], into)
        assert torch.equal(again.make(*again.sources), y.reshape(-1, y.shape[-1]).to(into))


def test_a_pass_is_let_go_while_its_loss_is_still_held():
    model = tiny_model().requires_grad_(False)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear")).base_model.model
    ids, kept_by = np.arange(TOKENS, dtype=np.int32), []
    fast.lay_over(model)

    def keep(tensor):
        kept_by.append(weakref.ref(tensor))
        return tensor

    batch = collate([Example(ids, ids > 0, "rows.jsonl", 0)], packed=True, pad_id=0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = Policy(model, "fast", torch.float32).loss_sum(batch)
    loss.backward()
    gc.collect()
    own = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    left = [ref() for ref in kept_by if ref() is not None and id(ref()) not in own]
    assert not [t.shape for t in left if TOKENS in t.shape and t.is_floating_point()]


def test_sources_hold_no_graph():
    x = torch.ones(3, requires_grad=True) * 2
    (source,) = carrying(x * 3, lambda source: source * 3, x).again.sources
    assert not source.requires_grad
    assert source.data_ptr() == x.data_ptr()
