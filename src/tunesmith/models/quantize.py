"""`model.quantize`: replaces the linear layers of a base's blocks by quantised ones, and back.

Embedding, head, norms and whatever adapters bring stay as they are: they are small, and the head's
errors would go into every logit.
"""

from collections.abc import Iterator

import torch
from torch import nn
from transformers import PreTrainedModel

from tunesmith.errors import ModelError
from tunesmith.models.int8 import Int8Linear
from tunesmith.models.mapped import let_go
from tunesmith.models.nf4 import Nf4Linear
from tunesmith.models.quantized import QuantizedLinear

KINDS: dict[str, type[QuantizedLinear]] = {"int8": Int8Linear, "nf4": Nf4Linear}
"""Every kind of quantisation by its name in the recipe."""
NONE = "none"


def quantize(model: PreTrainedModel, kind: str) -> None:
    """Quantise the linear layers of the blocks in place, one after the other.

    The wide weight of a layer is let go before the next one is made, so memory never holds more
    than the model as it came and one layer. The same weights give the same bits every time.

    Args:
        model: A frozen base, without adapters.
        kind: "none", which changes nothing, or a key of `KINDS`.

    Raises:
        ModelError: The blocks have no linear layers to quantise.
        MachineError: `kind` needs a package that is not installed.
    """
    if kind == NONE:
        return
    head = model.get_output_embeddings()
    names = [n for n, m in model.named_modules() if type(m) is nn.Linear and m is not head]
    if not names:
        raise ModelError(
            f"model.quantize: {kind}",
            got=f"{type(model).__name__}, whose blocks have no nn.Linear",
            expected="linear layers to quantise",
            hint="set model.quantize: none",
        )
    for name in names:
        model.set_submodule(name, KINDS[kind](model.get_submodule(name)))
    let_go(model)


def dequantize(model: nn.Module, dtype: torch.dtype) -> None:
    """Put plain layers with the quantised weights, in `dtype`, in place of all quantised ones."""
    for name in [name for name, _ in _quantized(model)]:
        model.set_submodule(name, model.get_submodule(name).dequantized(dtype))


def kind_of(model: nn.Module) -> str:
    """How a model is quantised: a key of `KINDS`, or "none"."""
    return next((layer.kind for _, layer in _quantized(model)), NONE)


def num_parameters(model: nn.Module) -> int:
    """Numbers that the parameters stand for; those of a packed weight count one by one."""
    packed = sum(layer.num_weights - layer.weight.numel() for _, layer in _quantized(model))
    return packed + sum(parameter.numel() for parameter in model.parameters())


def num_bytes(model: nn.Module) -> int:
    """Memory of all weights, with the scales of quantised ones."""
    scales = sum(layer.num_bytes - layer.weight.nbytes for _, layer in _quantized(model))
    return scales + sum(parameter.nbytes for parameter in model.parameters())


def _quantized(model: nn.Module) -> Iterator[tuple[str, QuantizedLinear]]:
    return ((n, m) for n, m in model.named_modules() if isinstance(m, QuantizedLinear))
