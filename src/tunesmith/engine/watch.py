"""How far the parameters move: the norm of an update, and growth from zero.

A jump of the update norm comes before one of the loss (Marin 32B, reliability.md section 1.3), and
LoRA's B, which starts at zero, has to grow for anything to be learned.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

EVERY = 8
"""Steps between two looks: the copy that a look needs is 20 MB for a LoRA of the starter."""
MOST = 2**16
"""Numbers of one tensor that are looked at, so that the copy stays small beside the gradients of a
whole model; every matrix of a LoRA of rank 16 on the starter is smaller."""


@dataclass(frozen=True, slots=True)
class Movement:
    """What one update did.

    Attributes:
        update_norm: Norm of the change of all trained parameters; of a tensor of more than MOST
            numbers the first MOST stand for all.
        grown_norm: Norm, after the update, of those that were zero at the start; None without any.
    """

    update_norm: float
    grown_norm: float | None


class Watch:
    """Looks at an update now and then.

    Args:
        parameters: The trained ones as they are before step 1, not yet restored from a checkpoint.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        # The norm of a whole tensor is taken to be to that of its part as their sizes demand.
        self._scales = [max(1.0, parameter.numel() / MOST) ** 0.5 for parameter in parameters]
        self._from_zero = [p.detach() for p in parameters if not p.any()]

    def around(self, step: int, update: Callable[[], object]) -> Movement | None:
        """Call `update`, and say what it did if this step (from 0) is looked at, else None."""
        if step % EVERY:
            update()
            return None
        before = [part.clone() for part in self._parts()]
        update()
        changes = torch._foreach_norm(torch._foreach_sub(self._parts(), before))
        norms = [torch.stack(torch._foreach_mul(changes, self._scales)).norm()]
        if self._from_zero:
            norms.append(torch.stack(torch._foreach_norm(self._from_zero)).norm())
        update_norm, *grown_norm = torch.stack(norms).tolist()
        return Movement(update_norm, grown_norm[0] if grown_norm else None)

    def _parts(self) -> list[Tensor]:
        return [parameter.detach().reshape(-1)[:MOST] for parameter in self._parameters]
