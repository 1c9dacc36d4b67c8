"""Factors on the rate, weight decay and depth of every parameter."""

import pytest
import torch

from tunesmith.adapters import lora
from tunesmith.engine import optimizer
from tunesmith.engine.depth import depths, top
from tunesmith.engine.groups import Settings, names_in_order, parameter_groups, rate_factors
from tunesmith.engine.loop import set_rate
from tunesmith.testing.tiny import tiny_model


def _trained(model):
    return dict(model.named_parameters())


def test_depths_of_a_model_of_two_blocks():
    model = tiny_model(tied=False)
    found = depths(model, _trained(model))
    assert top(model) == 3
    assert found["model.embed_tokens.weight"] == 0
    assert found["model.layers.0.self_attn.q_proj.weight"] == 1
    assert found["model.layers.1.mlp.down_proj.weight"] == 2
    assert found["model.norm.weight"] == found["lm_head.weight"] == 3


def test_depths_of_an_adapter_and_of_what_is_outside_the_model():
    attached = lora.attach(tiny_model(), lora.Config(rank=2), seed=0)
    found = depths(attached.model, [*attached.trained, "prompt.embedding"])
    assert set(found.values()) == {0, 1, 2}
    assert found["prompt.embedding"] == 0
    assert all(found[name] == 2 for name in attached.trained if ".layers.1." in name)


def test_layer_decay_by_hand():
    model = tiny_model()
    factors = rate_factors(model, _trained(model), Settings(layer_decay=0.5))
    assert factors["model.embed_tokens.weight"] == 0.125
    assert factors["model.layers.0.mlp.up_proj.weight"] == 0.25
    assert factors["model.layers.1.mlp.up_proj.weight"] == 0.5
    assert factors["model.norm.weight"] == 1.0


def test_the_factors_of_an_adapter_multiply_those_of_depth_and_the_rate():
    attached = lora.attach(tiny_model(), lora.Config(rank=2, targets=["q_proj"]), seed=0)
    up = {name: 16.0 for name in attached.trained if "lora_B" in name}
    settings = Settings(layer_decay=0.5, rates=up)
    groups = parameter_groups(attached.model, attached.trained, settings)
    built = optimizer.build("adamw", groups, 1.0, 0.0, {})
    set_rate(built, 0.01)
    rates = {
        name: group["lr"]
        for group in built.param_groups
        for name in names_in_order([group], attached.trained)
    }
    # Two blocks: 0.5 for the last one, 0.25 for the first.
    expected = {
        name: 0.01 * (0.5 if ".layers.1." in name else 0.25) * up.get(name, 1.0)
        for name in attached.trained
    }
    assert rates == pytest.approx(expected, rel=1e-12)
    assert set(up.values()) <= {16.0}
    assert len(groups) == 4


def test_vectors_are_not_decayed():
    model = tiny_model()
    trained = _trained(model)
    groups = parameter_groups(model, trained, Settings(weight_decay=0.1))
    decayed = {n: g["weight_decay"] for g in groups for n in names_in_order([g], trained)}
    assert decayed["model.norm.weight"] == 0.0
    assert decayed["model.layers.0.input_layernorm.weight"] == 0.0
    assert decayed["model.embed_tokens.weight"] == 0.1
    assert decayed["model.layers.0.mlp.up_proj.weight"] == 0.1


def test_a_step_decays_by_group_and_moves_by_factor():
    model = tiny_model()
    trained = _trained(model)
    settings = Settings(weight_decay=0.5, layer_decay=0.5)
    built = optimizer.build("sgd", parameter_groups(model, trained, settings), 1.0, 0.5, {})
    before = {name: p.detach().clone() for name, p in trained.items()}
    for parameter in trained.values():
        parameter.grad = torch.ones_like(parameter)
    set_rate(built, 0.1)
    built.step()
    for name, factor, decay in (
        ("model.layers.0.mlp.up_proj.weight", 0.25, 0.5),
        ("model.layers.1.input_layernorm.weight", 0.5, 0.0),
    ):
        expected = before[name] - 0.1 * factor * (1 + decay * before[name])
        torch.testing.assert_close(trained[name].detach(), expected)


def test_without_anything_to_tell_apart_there_is_one_group_in_the_given_order():
    attached = lora.attach(tiny_model(), lora.Config(rank=2), seed=0)
    groups = parameter_groups(attached.model, attached.trained, Settings(weight_decay=0.1))
    assert len(groups) == 1
    assert names_in_order(groups, attached.trained) == list(attached.trained)


@pytest.mark.parametrize("tied", [True, False])
def test_hidden_matrices_are_neither_embedding_nor_head_nor_vectors(tied):
    model = tiny_model(tied=tied)
    trained = _trained(model)
    groups = parameter_groups(model, trained, Settings(), by_matrix=True)
    hidden = {n for g in groups if g["matrix"] for n in names_in_order([g], trained)}
    assert hidden == {name for name in trained if "_proj" in name}
