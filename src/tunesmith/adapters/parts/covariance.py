"""CorDA's parts of a weight: the singular ones of W C, with C the covariance of the inputs.

    U S V^T = svd(W C),   B A = U_r S_r V_r^T C^-1

arXiv:2406.05223, eqs. 2 and 3, in the instruction-previewed mode, which adapts what the rows use
most. PEFT makes A and B out of the parts; its own way to them needs the package attrs, which
nothing else does. Inputs are scaled by their largest number and C gets more of its mean diagonal
until it can be inverted, both as in PEFT and in the authors' code.

Legend: T tokens, I inputs, O outputs, r rank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

DAMPING = 0.01
"""Share of C's mean diagonal that is added to it first; doubled until the inverse is good."""
GOOD_INVERSE = 0.05
"""Largest distance of C C^-1 from the identity."""


@dataclass(frozen=True)
class Parts:
    """What PEFT looks for in a layer, under the names that it looks for.

    Attributes:
        S_WC: (r,) largest singular values of W C.
        U_WC: (O, r) their left vectors.
        V_WC: (I, r) their right vectors, times C^-1.
    """

    S_WC: Tensor
    U_WC: Tensor
    V_WC: Tensor


@torch.no_grad()
def parts(model: nn.Module, ranks: Mapping[str, int], rows: Sequence[Tensor]) -> dict[str, Parts]:
    """The parts of each layer named in `ranks`, of so many singular values.

    Args:
        model: In eval mode.
        ranks: By the name of a linear layer, how many parts of it.
        rows: Token ids, (T,) each.
    """
    sums: dict[str, Tensor] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...], answer: Tensor) -> None:
            x_TI = args[0].detach().flatten(0, -2).float()
            x_TI = x_TI / x_TI.max().abs()
            sums[name] = sums.get(name, 0) + x_TI.t() @ x_TI

        return hook

    hooks = [model.get_submodule(name).register_forward_hook(note(name)) for name in ranks]
    try:
        for ids in rows:
            model(input_ids=ids[None].to(next(model.parameters()).device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        name: _parts(model.get_submodule(name).weight, sums.pop(name) / len(rows), rank)
        for name, rank in ranks.items()
    }


def _parts(weight_OI: Tensor, covariance_II: Tensor, rank: int) -> Parts:
    covariance_II, inverse_II = _inverted(covariance_II)
    u, s, vh = torch.linalg.svd(weight_OI.float() @ covariance_II, full_matrices=False)
    return Parts(s[:rank].clone(), u[:, :rank].clone(), (vh[:rank] @ inverse_II).t().clone())


def _inverted(covariance_II: Tensor) -> tuple[Tensor, Tensor]:
    """C, so much of its diagonal added that it can be inverted, and the inverse."""
    identity = torch.eye(len(covariance_II), device=covariance_II.device)
    mean, damping = covariance_II.diagonal().mean(), DAMPING
    while True:
        damped = covariance_II + identity * mean * damping
        inverse = torch.linalg.inv(damped)
        if torch.dist(damped @ inverse, identity) < GOOD_INVERSE:
            return damped, inverse
        damping *= 2
