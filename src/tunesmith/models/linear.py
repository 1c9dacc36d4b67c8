"""Linear layers that read the same input, as one product: q, k, v; gate, up; or a single one.

y = x W^T + b + s (x A^T) B^T  (LoRA, arXiv:2106.09685, eq. 3) with the layers' W, A and B laid end
to end, B in diagonal blocks. One autograd function makes three products forward and five backward
where three layers alone would make nine and fifteen; x A^T, which is thin, is kept.
Masters stay as they are (fp32 where trained); what the products read are copies in the type of the
computation, made anew only after an optimizer step changed a master.

The weights of the layers become views of the one matrix, so nothing is held twice.

Legend: M rows of input, I inputs, O outputs of all layers, R ranks of all adapters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook


def fits(layer: nn.Module) -> bool:
    """Whether a layer can be computed here, exactly as it computes itself.

    It can if it is a plain linear layer, or PEFT's LoRA over a frozen one with one active adapter
    and without dropout, variants such as DoRA, or a bias of its own.
    """
    if type(layer) is nn.Linear:
        return True
    if type(layer) is not LoraLinear or type(layer.base_layer) is not nn.Linear:
        return False
    if len(layer.active_adapters) != 1:
        return False
    (name,) = layer.active_adapters
    return (
        name in layer.lora_A
        and name not in layer.lora_variant
        and isinstance(layer.lora_dropout[name], nn.Identity)
        and not layer.lora_bias[name]
        and not layer.base_layer.weight.requires_grad
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """One layer of a projection as it is at the moment of a call.

    Attributes:
        weight: (o, I) its own weights.
        bias: (o,) or None.
        a: (r, I) the A of its active adapter; None without one.
        b: (o, r) likewise.
        scale: Factor on B A.
        rows: Its place among the outputs.
        columns: Its place among the ranks.
    """

    weight: Tensor
    bias: Tensor | None
    a: Tensor | None
    b: Tensor | None
    scale: float
    rows: slice
    columns: slice

    @property
    def masters(self) -> list[Tensor]:
        """Whatever may be trained, in the order in which `_gradients` makes theirs."""
        return [m for m in (self.weight, self.bias, self.a, self.b) if m is not None]


class _Steps:
    """Counts the steps of all optimizers: fused ones change weights without a new `_version`."""

    def __init__(self) -> None:
        self.count = 0
        register_optimizer_step_post_hook(self._note)

    def _note(self, *args: Any) -> None:
        self.count += 1


_steps = _Steps()


class Projection:
    """Layers that `fit` and read the same input.

    Args:
        layers: At least one, all with as many inputs; their weights have one type and device.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._layers = list(layers)
        self._weight_OI = _end_to_end([_base(layer).weight for layer in layers])
        self._kept: dict[str, tuple[Any, Tensor]] = {}

    def __call__(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Outputs of all layers side by side, (..., O) in `dtype`.

        Args:
            x: (..., I).
            dtype: That the products run in.
        """
        parts = self._parts()
        with torch.no_grad():
            low = _Low(
                self._weight(parts, dtype),
                self._bias(parts, dtype),
                self._a(parts, dtype),
                self._b(parts, dtype),
            )
        masters = [master for part in parts for master in part.masters]
        with torch.autocast(x.device.type, enabled=False):
            y_MO = _Project.apply(x.reshape(-1, x.shape[-1]).to(dtype), parts, low, *masters)
        return y_MO.view(*x.shape[:-1], -1)

    def _parts(self) -> list[_Part]:
        parts, row, column = [], 0, 0
        for layer in self._layers:
            base, (a, b, scale) = _base(layer), _adapter(layer)
            rank = 0 if b is None else b.shape[1]
            rows, columns = slice(row, row + base.out_features), slice(column, column + rank)
            parts.append(_Part(base.weight, base.bias, a, b, scale, rows, columns))
            row, column = rows.stop, columns.stop
        return parts

    def _weight(self, parts: list[_Part], dtype: torch.dtype) -> Tensor:
        """(O, I) the layers' weights end to end."""
        if self._weight_OI.dtype is dtype:
            return self._weight_OI
        weights = [part.weight for part in parts]
        return self._fresh("weight", dtype, weights, lambda: self._weight_OI.to(dtype))

    def _bias(self, parts: list[_Part], dtype: torch.dtype) -> Tensor | None:
        """(O,) the layers' biases end to end, zero for a layer without; None if none has one."""
        present = [part.bias for part in parts if part.bias is not None]
        if not present:
            return None
        every = [p.weight.new_zeros(len(p.weight)) if p.bias is None else p.bias for p in parts]
        return self._fresh("bias", dtype, present, lambda: torch.cat(every).to(dtype))

    def _a(self, parts: list[_Part], dtype: torch.dtype) -> Tensor | None:
        """(R, I) the adapters' A, one below the other; None without adapters."""
        present = [part.a for part in parts if part.a is not None]
        if not present:
            return None
        return self._fresh("a", dtype, present, lambda: torch.cat(present).to(dtype))

    def _b(self, parts: list[_Part], dtype: torch.dtype) -> Tensor | None:
        """(O, R) the adapters' s B, each in its own rows and columns, zero elsewhere."""
        present = [part for part in parts if part.b is not None]
        if not present:
            return None

        def blocks() -> Tensor:
            b_OR = present[0].b.new_zeros(parts[-1].rows.stop, parts[-1].columns.stop)
            for part in present:
                b_OR[part.rows, part.columns] = part.b * part.scale
            return b_OR.to(dtype)

        return self._fresh("b", dtype, [part.b for part in present], blocks)

    def _fresh(
        self, name: str, dtype: torch.dtype, masters: list[Tensor], make: Callable[[], Tensor]
    ) -> Tensor:
        """What `make` gives, kept until one of the masters changes."""
        state = (dtype, _steps.count, [(id(m), m.data_ptr(), m._version) for m in masters])
        kept = self._kept.get(name)
        if kept is None or kept[0] != state:
            kept = self._kept[name] = (state, make())
        return kept[1]


@dataclass(frozen=True, slots=True)
class _Low:
    """What the products read, all in one type."""

    weight_OI: Tensor
    bias_O: Tensor | None
    a_RI: Tensor | None
    b_OR: Tensor | None


class _Project(torch.autograd.Function):
    """x -> x W^T + b + (x A^T) (s B)^T; masters come along so that gradients reach them."""

    @staticmethod
    def forward(ctx: Any, x_MI: Tensor, parts: list[_Part], low: _Low, *masters: Tensor) -> Tensor:
        y_MO = F.linear(x_MI, low.weight_OI, low.bias_O)
        xa_MR = None
        if low.a_RI is not None:
            xa_MR = x_MI @ low.a_RI.t()
            y_MO.addmm_(xa_MR, low.b_OR.t())
        ctx.save_for_backward(x_MI, low.weight_OI, low.a_RI, low.b_OR, xa_MR)
        ctx.parts = parts
        return y_MO

    @staticmethod
    def backward(ctx: Any, d_y_MO: Tensor) -> tuple[Tensor | None, ...]:
        x_MI, weight_OI, a_RI, b_OR, xa_MR = ctx.saved_tensors
        parts = ctx.parts
        d_x = d_y_MO @ weight_OI if ctx.needs_input_grad[0] else None
        d_a = d_b = d_weight = d_bias = None
        if a_RI is not None:
            d_xa_MR = d_y_MO @ b_OR
            d_a, d_b = d_xa_MR.t() @ x_MI, d_y_MO.t() @ xa_MR
            if d_x is not None:
                d_x.addmm_(d_xa_MR, a_RI)
        if any(part.weight.requires_grad for part in parts):
            d_weight = d_y_MO.t() @ x_MI
        if any(part.bias is not None and part.bias.requires_grad for part in parts):
            d_bias = d_y_MO.sum(0, dtype=torch.float32)
        whole = _Low(d_weight, d_bias, d_a, d_b)
        gradients = [gradient for part in parts for gradient in _gradients(part, whole)]
        return d_x, None, None, *gradients


def _gradients(part: _Part, whole: _Low) -> list[Tensor | None]:
    """The gradients of a layer's masters, cut out of those of all layers together."""
    found = []
    for master, cut, factor in (
        (part.weight, lambda: whole.weight_OI[part.rows], 1.0),
        (part.bias, lambda: whole.bias_O[part.rows], 1.0),
        (part.a, lambda: whole.a_RI[part.columns], 1.0),
        (part.b, lambda: whole.b_OR[part.rows, part.columns], part.scale),
    ):
        if master is None:
            continue
        gradient = cut().to(master.dtype) if master.requires_grad else None
        found.append(gradient if gradient is None or factor == 1.0 else gradient * factor)
    return found


def _base(layer: nn.Module) -> nn.Linear:
    return layer.base_layer if isinstance(layer, LoraLinear) else layer


def _adapter(layer: nn.Module) -> tuple[Tensor | None, Tensor | None, float]:
    """A, B and their scale; without an adapter, or while it is off or merged, None and None."""
    if not isinstance(layer, LoraLinear) or layer.disable_adapters or layer.merged:
        return None, None, 1.0
    (name,) = layer.active_adapters
    return layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]


def _end_to_end(weights: list[nn.Parameter]) -> Tensor:
    """One matrix of all rows; the parameters become views of it, if they are not yet."""
    if len(weights) == 1:
        return weights[0].detach()
    rows, columns = sum(map(len, weights)), weights[0].shape[1]
    if _lie_end_to_end(weights):
        return weights[0].detach().as_strided((rows, columns), (columns, 1))
    whole_OI = torch.cat([weight.detach() for weight in weights])
    for weight, own in zip(weights, whole_OI.split([*map(len, weights)]), strict=True):
        weight.data = own
    return whole_OI


def _lie_end_to_end(weights: list[nn.Parameter]) -> bool:
    """Whether each begins in memory where the one before it ends."""
    return all(
        before.is_contiguous()
        and before.untyped_storage().data_ptr() == after.untyped_storage().data_ptr()
        and before.data_ptr() + before.numel() * before.element_size() == after.data_ptr()
        for before, after in pairwise(weights)
    )
