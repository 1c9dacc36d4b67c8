"""LoHa, LoKr and VeRA trained in the type of the model, by updates that are held in fp32.

PEFT multiplies by an update in fp32, the type of its numbers: in LoHa and LoKr by the whole of it,
W' - W; in VeRA by its A and B, of a rank in the hundreds. In a bf16 model that product takes most
of a step. While training, what is multiplied by is rounded first, as the factors of LoRA are. What
is measured and shown is PEFT's own, so that it is what PEFT loads again.
"""

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners import vera
from peft.tuners.lycoris_utils import LycorisLayer
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary


def train_in_type_of_model(model: nn.Module) -> None:
    """Let every such linear layer of `model` multiply in the type of what it is given."""
    for layer in model.modules():
        if isinstance(layer, LycorisLayer) and isinstance(layer.get_base_layer(), nn.Linear):
            layer._get_delta_activations = MethodType(_product, layer)
        elif type(layer) is vera.Linear:
            # Another `forward` of this one layer would be taken off with the fast compute paths.
            layer.__class__ = VeraLinear


def _product(layer: LycorisLayer, name: str, x: Tensor, *rest: Any, **keys: Any) -> Tensor:
    """(..., out): what the update `name` adds to the layer's output."""
    if not layer.training:
        return type(layer)._get_delta_activations(layer, name, x, *rest, **keys)
    drops = bool(layer.rank_dropout[name])
    return F.linear(x, layer.get_delta_weight(name, apply_rank_dropout=drops).to(x.dtype))


class VeraLinear(vera.Linear):
    """PEFT's layer, which trains y + b o ((d o (x A^T)) B^T) in the type of x.

    A and B are those of all layers, cut to the inputs and outputs of this one.
    """

    def forward(self, x: Tensor, *rest: Any, **keys: Any) -> Tensor:
        """(..., out)."""
        if not self.training or self.disable_adapters or self.merged:
            return super().forward(x, *rest, **keys)
        (name,) = self.active_adapters
        a = in_type(self.vera_A[name], x.dtype)[:, : self.in_features]
        b = in_type(self.vera_B[name], x.dtype)[: self.out_features]
        narrow = F.linear(self.vera_dropout[name](x), a) * self.vera_lambda_d[name].to(x.dtype)
        update = F.linear(narrow, b) * self.vera_lambda_b[name].to(x.dtype)
        return self.base_layer(x, *rest, **keys) + update


_rounded = WeakTensorKeyDictionary()
"""The last copy of each frozen matrix in another type."""


def in_type(frozen: Tensor, dtype: torch.dtype) -> Tensor:
    """A matrix that never changes again, in `dtype`: itself, or a copy made once for all layers."""
    if frozen.dtype == dtype:
        return frozen
    copy = _rounded.get(frozen)
    if copy is None or copy.dtype != dtype:
        copy = _rounded[frozen] = frozen.to(dtype)
    return copy
