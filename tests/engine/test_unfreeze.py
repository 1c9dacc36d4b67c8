"""Which blocks are trained is a function of the step."""

import torch

from tunesmith.engine.unfreeze import Unfreezing
from tunesmith.testing.tiny import tiny_model


def _with_gradient(model, freeze, step):
    """Names of the parameters that still have a gradient."""
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    freeze(step)
    return {name for name, p in model.named_parameters() if p.grad is not None}


def test_blocks_join_from_the_last_to_the_embedding():
    model = tiny_model()
    names = {name for name, _ in model.named_parameters()}
    freeze = Unfreezing(model, dict(model.named_parameters()), every=10)
    last = {n for n in names if n.startswith("model.layers.1.")}
    first = {n for n in names if n.startswith("model.layers.0.")}
    last.add("model.norm.weight")
    assert _with_gradient(model, freeze, 0) == _with_gradient(model, freeze, 9) == last
    assert _with_gradient(model, freeze, 10) == _with_gradient(model, freeze, 19) == last | first
    assert _with_gradient(model, freeze, 20) == _with_gradient(model, freeze, 1000) == names


def test_all_are_trained_where_nothing_was_asked():
    model = tiny_model()
    freeze = Unfreezing(model, dict(model.named_parameters()), every=None)
    assert len(_with_gradient(model, freeze, 0)) == len(list(model.parameters()))
