"""What a method trains beside the model, such as a value head: built, and its parameter group."""

from typing import Any

import torch

from tunesmith.adapters.base import Attached
from tunesmith.api.resolve import device
from tunesmith.engine.groups import MATRIX, RATE_FACTOR
from tunesmith.methods import base as methods
from tunesmith.methods.base import Companion
from tunesmith.recipe import Recipe


def build_companion(recipe: Recipe, attached: Attached) -> Companion | None:
    """What the method trains beside the model; its start is a function of the seed."""
    make = getattr(methods.load(recipe.method.name), "companion", None)
    if make is None:
        return None
    torch.manual_seed(recipe.train.seed)
    made = make(attached.model.get_output_embeddings().weight.shape[1], recipe.method)
    made.module.to(device())
    return made


def beside(companion: Companion | None, by_matrix: bool) -> list[dict[str, Any]]:
    """The group of what the method trains beside the model, with a rate of its own."""
    if companion is None:
        return []
    own = list(companion.module.parameters())
    options = {"params": own, RATE_FACTOR: companion.rate, "weight_decay": 0.0}
    return [options | ({MATRIX: False} if by_matrix else {})]
