"""Parameter groups: which parameters share a factor on the learning rate and a weight decay.

The factor of a parameter is that of the adapter (as in LoRA+, arXiv:2402.12354: the rate of B is a
multiple of that of A) times that of its depth (ULMFiT, arXiv:1801.06146, section 3.2, and ELECTRA,
arXiv:2003.10555: lower layers learn more slowly):

    factor(p) = adapter(p) * layer_decay ^ (L + 1 - depth(p))

Vectors (norms, biases, scales) are not decayed: pulling a norm towards 0 changes how large
activations are, not how complex the function is. Hugging Face's Trainer leaves them out as well, by
the names of layers; torchtune decays everything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.engine.depth import INPUT, depths, top

RATE_FACTOR, MATRIX = "rate_factor", "matrix"
"""Options of a group: what its learning rate is multiplied by; whether it holds hidden matrices."""


@dataclass(frozen=True)
class Settings:
    """What the recipe and the adapter say about single parameters.

    Attributes:
        weight_decay: Of matrices.
        layer_decay: Factor on the rate for each block further from the head; None for none.
        rates: The adapter's own factors, by name.
    """

    weight_decay: float = 0.0
    layer_decay: float | None = None
    rates: Mapping[str, float] = field(default_factory=dict)


def parameter_groups(
    model: PreTrainedModel,
    trained: Mapping[str, nn.Parameter],
    settings: Settings,
    by_matrix: bool = False,
) -> list[dict[str, Any]]:
    """The groups that an optimizer is built with, in the order in which they first come.

    Args:
        model: Knows the depth of a parameter.
        trained: Parameters by name.
        settings: What holds for which.
        by_matrix: Whether hidden matrices stand apart from embeddings, head and vectors, each group
            then saying so under `matrix`.
    """
    factors = rate_factors(model, trained, settings)
    hidden = _hidden(model, trained) if by_matrix else frozenset()
    groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
    for name, parameter in trained.items():
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        key = (factors[name], decay, name in hidden)
        options = {"params": [], RATE_FACTOR: factors[name], "weight_decay": decay}
        if by_matrix:
            options[MATRIX] = name in hidden
        groups.setdefault(key, options)["params"].append(parameter)
    return list(groups.values())


def rate_factors(
    model: PreTrainedModel, trained: Mapping[str, nn.Parameter], settings: Settings
) -> dict[str, float]:
    """The factor on the learning rate of each parameter."""
    decay = settings.layer_decay
    found = {name: settings.rates.get(name, 1.0) for name in trained}
    if decay is None:
        return found
    highest, deep = top(model), depths(model, trained)
    return {name: factor * decay ** (highest - deep[name]) for name, factor in found.items()}


def names_in_order(groups: list[dict[str, Any]], trained: Mapping[str, Tensor]) -> list[str]:
    """The names of the parameters of an optimizer, in the order of its groups."""
    names = {id(parameter): name for name, parameter in trained.items()}
    return [names[id(parameter)] for group in groups for parameter in group["params"]]


def _hidden(model: PreTrainedModel, trained: Mapping[str, nn.Parameter]) -> frozenset[str]:
    """Matrices that are neither of an embedding nor of the head."""
    head = model.get_output_embeddings()
    outer = {id(p) for p in head.parameters()} if head is not None else set()
    deep = depths(model, trained)
    return frozenset(
        name
        for name, parameter in trained.items()
        if parameter.ndim == 2 and id(parameter) not in outer and deep[name] != INPUT
    )
