"""How deep in the model a parameter lies: what layer-wise rates and gradual unfreezing go by."""

from collections.abc import Iterable

from torch import nn
from transformers import PreTrainedModel

INPUT = 0
"""Depth of embeddings, and of whatever else stands before the blocks."""


def depths(model: PreTrainedModel, names: Iterable[str]) -> dict[str, int]:
    """The depth of each parameter.

    Args:
        model: Its blocks are the list of modules that holds most of its parameters.
        names: Of parameters of the model; one that is not there (a soft prompt) counts as input.

    Returns:
        0 for embeddings, 1 to L for the L blocks, L + 1 for what follows them: norm and head. A
        head that shares its weight with the embedding goes by the name that the weight has.
    """
    opening, num_blocks = _blocks(model)
    inputs, known = _embeddings(model), {name for name, _ in model.named_parameters()}
    found = {}
    for name in names:
        if opening and name.startswith(opening):
            found[name] = 1 + int(name.removeprefix(opening).partition(".")[0])
        elif name not in known or name.startswith(inputs):
            found[name] = INPUT
        else:
            found[name] = num_blocks + 1
    return found


def top(model: PreTrainedModel) -> int:
    """The depth of what follows the last block."""
    return _blocks(model)[1] + 1


def _blocks(model: nn.Module) -> tuple[str, int]:
    """Beginning of the names of everything in blocks, and how many there are."""
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)}
    if not lists:
        return "", 0
    name = max(lists, key=lambda each: sum(p.numel() for p in lists[each].parameters()))
    return f"{name}.", len(lists[name])


def _embeddings(model: PreTrainedModel) -> tuple[str, ...]:
    """Beginnings of the names of everything in embeddings, an adapter around one included."""
    given = model.get_input_embeddings()
    names = [n for n, m in model.named_modules() if m is given or isinstance(m, nn.Embedding)]
    return tuple(f"{name}." for name in names)
