"""LoHa and LoKr trained in the type of the model, by updates that are made in fp32.

PEFT makes the whole update of a layer, W' - W, and multiplies by it in fp32, its own type. In a
bf16 model that product takes most of a step. While training, the update is rounded first, as the
factors of LoRA are. What is measured and shown is PEFT's own, so that it is what PEFT loads again.
"""

from types import MethodType
from typing import Any

import torch.nn.functional as F
from peft.tuners.lycoris_utils import LycorisLayer
from torch import Tensor, nn


def train_in_type_of_model(model: nn.Module) -> None:
    """Let every such linear layer of `model` multiply in the type of what it is given."""
    for layer in model.modules():
        if isinstance(layer, LycorisLayer) and isinstance(layer.get_base_layer(), nn.Linear):
            layer._get_delta_activations = MethodType(_product, layer)


def _product(layer: LycorisLayer, name: str, x: Tensor, *rest: Any, **keys: Any) -> Tensor:
    """(..., out): what the update `name` adds to the layer's output."""
    if not layer.training:
        return type(layer)._get_delta_activations(layer, name, x, *rest, **keys)
    drops = bool(layer.rank_dropout[name])
    return F.linear(x, layer.get_delta_weight(name, apply_rank_dropout=drops).to(x.dtype))
