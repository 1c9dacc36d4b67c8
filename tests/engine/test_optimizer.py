"""Optimizers by name, and clear errors for what they do not take."""

import pytest
import torch
from torch import nn

from tunesmith.config import folder
from tunesmith.engine import optimizer, optimizers
from tunesmith.errors import RecipeError


def _parameters():
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(3, 2))]


@pytest.mark.parametrize("name", sorted(set(optimizer.names()) - set(folder.names(optimizers))))
def test_every_optimizer_moves_a_parameter(name):
    parameters = _parameters()
    before = parameters[0].detach().clone()
    built = optimizer.build(name, parameters, 1e-2, 0.0, {})
    for _ in range(2):
        parameters[0].grad = torch.ones_like(parameters[0])
        built.step()
    assert not torch.equal(parameters[0], before)


def test_a_first_adamw_step_by_hand():
    parameter = nn.Parameter(torch.tensor([1.0]))
    built = optimizer.build("AdamW", [parameter], 0.1, 0.5, {"betas": [0.9, 0.99]})
    parameter.grad = torch.tensor([2.0])
    built.step()
    # Decay 1 - 0.1 * 0.5, then the first Adam step is the rate times the sign.
    assert parameter.item() == pytest.approx(0.95 - 0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "decay", "text"),
    [
        ("adamww", {}, 0.0, "did you mean adamw?"),
        ("adamw", {"beta": [0.9, 0.9]}, 0.0, "hint: did you mean betas?"),
        ("adamw", {"betas": [2, 3]}, 0.0, "Invalid beta"),
        ("adamw", {"lr": 1.0}, 0.0, "got an unknown argument"),
    ],
)
def test_wrong_optimizers_are_refused(name, options, decay, text):
    with pytest.raises(RecipeError) as caught:
        optimizer.build(name, _parameters(), 1e-3, decay, options)
    assert text in str(caught.value)
