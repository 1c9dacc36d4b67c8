"""Muon for hidden matrices, AdamW for the rest: embeddings, head, norms, biases.

    B_t = mu B_{t-1} + g_t
    W_t = W_{t-1} - rate (0.2 sqrt(max(rows, columns)) O_t + decay W_{t-1})

O_t is B_t (with Nesterov momentum: g_t + mu B_t) with its singular values brought near 1, by five
iterations of Newton-Schulz. Muon is Scalable for LLM Training, arXiv:2502.16982, eq. 1 and 4: by
that factor an update has the size of one of AdamW, so both share one learning rate and schedule.
The updates are those of torch.optim.

Of models pretrained with Adam, full fine-tuning with Muon is reported to be worse than with AdamW,
LoRA to be as good or better (arXiv:2605.10468).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import AdamW, Muon, Optimizer

from tunesmith.engine.groups import MATRIX
from tunesmith.engine.optimizers.base import Choice


def choice(device: torch.device) -> Choice:
    """Works on every device."""
    return Choice(MuonAdamW, matrices=True)


class MuonAdamW(Optimizer):
    """Two optimizers of torch as one: they share its groups and its state.

    Args:
        params: Groups; each says under `matrix` whether Muon trains it, else all of its parameters
            being matrices does.
        lr: Of both.
        weight_decay: Of both.
        momentum: Of Muon.
        nesterov: Of Muon.
        ns_steps: Iterations of Newton-Schulz.
        adjust_lr_fn: `match_rms_adamw`, or `original` for updates as large as Keller Jordan's,
            which want a rate of their own.
        betas: Of AdamW.
        eps: Of AdamW.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: str = "match_rms_adamw",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        for group in self.param_groups:
            group.setdefault(MATRIX, all(parameter.ndim == 2 for parameter in group["params"]))
        hidden = [group for group in self.param_groups if group[MATRIX]]
        others = [group for group in self.param_groups if not group[MATRIX]]
        self._parts: list[Optimizer] = []
        if hidden:
            options = {"momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps}
            self._parts.append(Muon(hidden, lr=lr, adjust_lr_fn=adjust_lr_fn, **options))
        if others:
            self._parts.append(AdamW(others, lr=lr, betas=betas, eps=eps, fused=True))
        for part in self._parts:
            part.state = self.state

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Update every parameter that has a gradient; `closure` must be None."""
        for part in self._parts:
            part.step(closure)
