"""Linear layers that read the same input, as one product: q, k, v; gate, up; or a single one.

y = x W^T + b + s (x A^T) B^T  (LoRA, arXiv:2106.09685, eq. 3) with the layers' W, A and B laid end
to end, B in diagonal blocks. One autograd function makes three products forward and five backward
where three layers alone would make nine and fifteen; x A^T, which is thin, is kept. Masters stay
as they are (fp32 where trained); what the products read are copies in the type of the computation,
made anew only after an optimizer step changed a master.

The weights of the layers become views of the one matrix, so nothing is held twice.

Legend: M rows of input, I inputs, O outputs of all layers, R ranks of all adapters.
"""

from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, TypeVar

import torch
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from tunesmith.models.again import kept
from tunesmith.models.packed import frozen
from tunesmith.models.project import Low, Part, project
from tunesmith.models.quantized import QuantizedLinear
from tunesmith.models.thin import Thin
from tunesmith.models.weight import Plain, Weight, end_to_end

T = TypeVar("T")


def fits(layer: nn.Module) -> bool:
    """Whether a layer can be computed here, exactly as it computes itself.

    It can if it is a plain or quantised linear layer, or PEFT's LoRA or DoRA over a frozen one with
    one active adapter and without dropout, other variants, or a bias of its own. DoRA over a
    quantised one it cannot: that needs the lengths of the rows of W.
    """
    if _is_linear(layer):
        return True
    if type(layer) is not LoraLinear or not _is_linear(layer.base_layer):
        return False
    if len(layer.active_adapters) != 1:
        return False
    (name,) = layer.active_adapters
    quantized = isinstance(layer.base_layer, QuantizedLinear)
    return (
        name in layer.lora_A
        and isinstance(
            layer.lora_variant.get(name), NoneType if quantized else DoraLinearVariant | None
        )
        and isinstance(layer.lora_dropout[name], nn.Identity)
        and not layer.lora_bias[name]
        and not layer.base_layer.weight.requires_grad
    )


def _is_linear(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear or isinstance(layer, QuantizedLinear)


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
        layers: At least one, all with as many inputs; their weights have one type and device, and
            are all plain or all quantised alike.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._layers = list(layers)
        bases = [_base(layer) for layer in layers]
        self._quantized = self._joined_OI = None
        if isinstance(bases[0], QuantizedLinear):
            self._quantized = bases[0].together(bases)
        elif len(bases) > 1:
            self._joined_OI = end_to_end([base.weight for base in bases])
        self._kept: dict[str, tuple[Any, Any]] = {}

    def __call__(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Outputs of all layers side by side, (..., O) in `dtype`.

        Args:
            x: (..., I).
            dtype: That the products run in.
        """
        parts = self._parts()
        with torch.no_grad():
            weight = self._weight(parts, dtype)
            low = Low(
                weight,
                self._bias(parts, dtype),
                self._a(parts, dtype, weight),
                self._b(parts, dtype, weight),
                self._length(parts),
                _magnitude(parts),
            )
        width = x.shape[-1]
        with torch.autocast(x.device.type, enabled=False):
            y_MO = project(x.reshape(-1, width).to(dtype), kept(x, width, dtype), parts, low)
        return y_MO.view(*x.shape[:-1], y_MO.shape[1])

    def _parts(self) -> list[Part]:
        parts, row, column = [], 0, 0
        for layer in self._layers:
            base, (a, b, scale, magnitude) = _base(layer), _adapter(layer)
            rank = 0 if b is None else b.shape[1]
            rows, columns = slice(row, row + base.out_features), slice(column, column + rank)
            parts.append(Part(base.weight, base.bias, a, b, scale, magnitude, rows, columns))
            row, column = rows.stop, columns.stop
        return parts

    def _weight(self, parts: list[Part], dtype: torch.dtype) -> Weight:
        """The layers' weights end to end."""
        if self._quantized is not None:
            return self._quantized
        weights = [part.weight for part in parts]
        # A single one is looked up each time: its memory may be another by now.
        whole_OI = weights[0].detach() if self._joined_OI is None else self._joined_OI
        if not any(weight.requires_grad for weight in weights) and not self._merged():
            # A head's own parameter, so that the loss reads the same layout.
            return frozen(weights[0] if self._joined_OI is None else whole_OI, dtype)
        if whole_OI.dtype is dtype:
            return Plain(whole_OI)
        return Plain(self._fresh("weight", dtype, weights, lambda: whole_OI.to(dtype)))

    def _merged(self) -> bool:
        """Whether PEFT has, for a time, added an adapter to the weights, unseen by `_version`."""
        return any(isinstance(layer, LoraLinear) and layer.merged for layer in self._layers)

    def _bias(self, parts: list[Part], dtype: torch.dtype) -> Tensor | None:
        """(O,) the layers' biases end to end, zero for a layer without; None if none has one."""
        present = [part.bias for part in parts if part.bias is not None]
        if not present:
            return None
        every = [present[0].new_zeros(p.size) if p.bias is None else p.bias for p in parts]
        return self._fresh("bias", dtype, present, lambda: torch.cat(every).to(dtype))

    def _a(self, parts: list[Part], dtype: torch.dtype, weight: Weight) -> Thin | None:
        """(R, I) the adapters' A, one below the other; None without adapters."""
        present = [part.a for part in parts if part.a is not None]
        if not present:
            return None
        return self._fresh(
            "a", dtype, present, lambda: Thin.of(torch.cat(present).to(dtype), weight)
        )

    def _b(self, parts: list[Part], dtype: torch.dtype, weight: Weight) -> Thin | None:
        """(R, O) the adapters' s B transposed, each in its own ranks and outputs, else zero."""
        present = [part for part in parts if part.b is not None]
        if not present:
            return None

        def blocks() -> Thin:
            b_OR = present[0].b.new_zeros(parts[-1].rows.stop, parts[-1].columns.stop)
            for part in present:
                b_OR[part.rows, part.columns] = part.b * part.scale
            places = [(part.columns, part.rows) for part in present]
            return Thin.of(b_OR.to(dtype).t(), weight, places)

        return self._fresh("b", dtype, [part.b for part in present], blocks)

    def _length(self, parts: list[Part]) -> Tensor | None:
        """(O,) float32, what DoRA divides each output by; None without it."""
        present = [part for part in parts if part.magnitude is not None]
        if not present:
            return None
        masters = [master for part in present for master in part.masters]
        return self._fresh(
            "length", torch.float32, masters, lambda: torch.cat([part.length() for part in parts])
        )

    def _fresh(
        self, name: str, dtype: torch.dtype, masters: list[Tensor], make: Callable[[], T]
    ) -> T:
        """What `make` gives, kept until one of the masters changes."""
        state = (dtype, _steps.count, [(id(m), m.data_ptr(), m._version) for m in masters])
        kept = self._kept.get(name)
        if kept is None or kept[0] != state:
            kept = self._kept[name] = (state, make())
        return kept[1]


def _magnitude(parts: list[Part]) -> Tensor | None:
    """(O,) float32, the m of DoRA, 1 for a layer without; None if none has it."""
    if all(part.magnitude is None for part in parts):
        return None
    ones = [part.weight.new_ones(len(part.weight), dtype=torch.float32) for part in parts]
    pairs = zip(parts, ones, strict=True)
    return torch.cat([one if p.magnitude is None else p.magnitude.detach() for p, one in pairs])


def _base(layer: nn.Module) -> nn.Linear:
    return layer.base_layer if isinstance(layer, LoraLinear) else layer


def _adapter(layer: nn.Module) -> tuple[Tensor | None, Tensor | None, float, Tensor | None]:
    """A, B, their scale, and DoRA's magnitude; None without, or while it is off or merged."""
    if not isinstance(layer, LoraLinear) or layer.disable_adapters or layer.merged:
        return None, None, 1.0, None
    (name,) = layer.active_adapters
    dora = name in layer.lora_magnitude_vector
    magnitude = layer.lora_magnitude_vector[name].weight if dora else None
    return layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name], magnitude
