"""A model with an adapter that has moved, and what every test compares."""

import pytest
import torch

from tunesmith.adapters import base
from tunesmith.adapters.base import Material
from tunesmith.testing.tiny import tiny_model

IDS = torch.arange(12)[None]


def rows():
    """Token ids that a start may look at."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(0, 256, (40,), generator=generator) for _ in range(8)]


def material(**changes):
    """What `attach_from` is given."""
    plain = {"ids": lambda text: list(text.encode()), "rows": rows}
    return Material(**plain | changes)


def small(**overrides):
    """The tiny model with one layer; the same bits each time."""
    return tiny_model(seed=0, **{"num_hidden_layers": 1} | overrides)


def attach(config, model=None, seed=1, **changes):
    """The adapter of `config` on a small model."""
    model = small() if model is None else model
    return base.attach(config, model, seed, material(**changes))


@torch.no_grad()
def move(attached, scale=0.05):
    """Change every trained number, the same way each time."""
    generator = torch.Generator().manual_seed(3)
    for parameter in attached.trained.values():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    return attached


@torch.no_grad()
def logits(model, ids=IDS):
    """Of one row."""
    return model(input_ids=ids).logits


@pytest.fixture
def moved():
    """Attaches the adapter of a config and moves it."""
    return lambda config, **changes: move(attach(config, **changes))
