"""The product behind a projection: forward, backward, and whose gradient is whose.

y = (x W^T + (x A^T) (s B)^T) g + b, with W, A and B of several layers laid end to end, and g = 1
except for DoRA (arXiv:2402.09353, eq. 5), where it is m / ||W + s B A||, the norm a constant.

Legend: M rows of input, I inputs, O outputs of all layers, R ranks of all adapters; o and r those
of one layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunesmith.models.again import Again
from tunesmith.models.thin import Thin, times, times_transposed
from tunesmith.models.weight import Weight


@dataclass(frozen=True, slots=True)
class Part:
    """One layer of a projection as it is at the moment of a call.

    Attributes:
        weight: (o, I) its own weights; of a quantised layer, frozen, what they are packed into.
        bias: (o,) or None.
        a: (r, I) the A of its active adapter; None without one.
        b: (o, r) likewise.
        scale: Factor on B A.
        magnitude: (o,) the m of DoRA; None without it.
        rows: Its place among the outputs.
        columns: Its place among the ranks.
    """

    weight: Tensor
    bias: Tensor | None
    a: Tensor | None
    b: Tensor | None
    scale: float
    magnitude: Tensor | None
    rows: slice
    columns: slice

    @property
    def size(self) -> int:
        """Its number of outputs."""
        return self.rows.stop - self.rows.start

    @property
    def masters(self) -> list[Tensor]:
        """Whatever may be trained, in the order in which `_Gradients.of` gives theirs."""
        every = (self.weight, self.bias, self.a, self.b, self.magnitude)
        return [master for master in every if master is not None]

    def length(self) -> Tensor:
        """(o,) float32, the lengths of the rows of W + s B A; 1 without DoRA."""
        if self.magnitude is None:
            return self.weight.new_ones(len(self.weight), dtype=torch.float32)
        return torch.addmm(self.weight.float(), self.b, self.a, alpha=self.scale).norm(dim=1)


@dataclass(frozen=True, slots=True)
class Low:
    """What the products of all layers read; matrices and bias in the type of the computation."""

    weight: Weight
    bias_O: Tensor | None
    a: Thin | None
    """(R, I) the A of all layers."""
    b: Thin | None
    """(R, O) their s B, transposed; each in its own ranks and outputs."""
    length_O: Tensor | None
    magnitude_O: Tensor | None

    @property
    def stretch_O(self) -> Tensor:
        """(O,) what DoRA multiplies each output by."""
        return (self.magnitude_O / self.length_O).to(self.b.matrix_RN.dtype)


def project(x_MI: Tensor, again: Again, parts: list[Part], low: Low) -> Tensor:
    """The outputs of all layers side by side, (M, O) in the type of `x_MI`.

    Args:
        x_MI: (M, I), in the type of what `low` holds.
        again: How the backward pass has it again.
        parts: The layers; gradients reach their masters.
        low: What the products read.
    """
    masters = [master for part in parts for master in part.masters]
    return _Project.apply(x_MI, again, parts, low, *masters)


class _Project(torch.autograd.Function):
    """x -> (x W^T + (x A^T) (s B)^T) g + b; masters are arguments so that gradients reach them."""

    @staticmethod
    def forward(
        ctx: Any, x_MI: Tensor, again: Again, parts: list[Part], low: Low, *masters: Tensor
    ) -> Tensor:
        ctx.parts, ctx.low, ctx.make = parts, low, again.make
        bias_O = low.bias_O if low.length_O is None else None
        xa_MR = plain_MO = None
        if low.a is None:
            y_MO = low.weight.times(x_MI, bias_O)
        else:
            xa_MR = low.a.narrowed(x_MI)
            y_MO = times(low.weight, x_MI, bias_O, xa_MR, low.b)
        if low.length_O is not None:
            plain_MO, y_MO = y_MO, y_MO * low.stretch_O
            if low.bias_O is not None:
                y_MO += low.bias_O
        wanted = low.a is not None or any(part.weight.requires_grad for part in parts)
        ctx.save_for_backward(xa_MR, plain_MO, *(again.sources if wanted else ()))
        return y_MO

    @staticmethod
    def backward(ctx: Any, d_y_MO: Tensor) -> tuple[Tensor | None, ...]:
        xa_MR, plain_MO, *sources = ctx.saved_tensors
        x_MI = ctx.make(*sources) if sources else None
        parts, low, whole = ctx.parts, ctx.low, _Gradients()
        if any(part.bias is not None and part.bias.requires_grad for part in parts):
            whole.bias_O = d_y_MO.sum(0, dtype=torch.float32)
        if low.length_O is not None:
            whole.magnitude_O = (d_y_MO * plain_MO).sum(0, dtype=torch.float32) / low.length_O
            d_y_MO = d_y_MO * low.stretch_O
        d_xa_MR = d_x = None
        if low.a is not None:
            d_xa_MR = low.b.narrowed(d_y_MO)
            whole.a_RI, whole.b_RO = low.a.gradient(d_xa_MR, x_MI), low.b.gradient(xa_MR, d_y_MO)
        if ctx.needs_input_grad[0] and low.a is not None:
            d_x = times_transposed(low.weight, d_y_MO, d_xa_MR, low.a)
        elif ctx.needs_input_grad[0]:
            d_x = low.weight.times_transposed(d_y_MO)
        if any(part.weight.requires_grad for part in parts):
            whole.weight_OI = d_y_MO.t() @ x_MI
        gradients = [gradient for part in parts for gradient in whole.of(part)]
        return d_x, None, None, None, *gradients


@dataclass(slots=True)
class _Gradients:
    """Gradients of all layers together, laid end to end; None where none is wanted."""

    weight_OI: Tensor | None = None
    bias_O: Tensor | None = None
    a_RI: Tensor | None = None
    b_RO: Tensor | None = None
    magnitude_O: Tensor | None = None

    def of(self, part: Part) -> list[Tensor | None]:
        """Those of a layer's masters."""
        cuts: tuple[tuple[Tensor | None, Callable[[], Tensor]], ...] = (
            (part.weight, lambda: self.weight_OI[part.rows]),
            (part.bias, lambda: self.bias_O[part.rows]),
            (part.a, lambda: self.a_RI[part.columns]),
            (part.b, lambda: self.b_RO[part.columns, part.rows].t().to(part.b.dtype) * part.scale),
            (part.magnitude, lambda: self.magnitude_O[part.rows]),
        )
        return [
            cut().to(master.dtype) if master.requires_grad else None
            for master, cut in cuts
            if master is not None
        ]
