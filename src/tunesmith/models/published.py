"""A single weight of a base, read from its files anew: in memory it may have been quantised."""

from safetensors import safe_open
from torch import Tensor

from tunesmith.errors import ModelError
from tunesmith.models.base import BaseSource
from tunesmith.models.refuse import weight_names


def published(source: BaseSource, layer: str) -> Tensor:
    """The weight of a linear layer as it was published, (outputs, inputs) in its own type.

    Args:
        source: Where the base lies.
        layer: The layer's name in the model.

    Raises:
        ModelError: The files have no tensor of that name.
    """
    name = f"{layer}.weight"
    for file in [] if source.gguf else weight_names(source.path):
        with safe_open(source.path / file, framework="pt") as tensors:
            if name in tensors.keys():  # noqa: SIM118
                return tensors.get_tensor(name)
    raise ModelError(
        str(source.path / (source.gguf or "")),
        got=f"no tensor {name}",
        expected="safetensors whose names are those of the model in memory",
        hint="adapter.init: default needs no such look at the files",
    )
