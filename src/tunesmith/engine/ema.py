"""An exponential moving average of the trained weights.

    e_t = d_t e_{t-1} + (1 - d_t) w_t,    d_t = min(decay, (1 + t) / (10 + t))

Averaging of iterates is Polyak and Juditsky's (SIAM J. Control Optim. 30, 1992); the smaller decay
of the first steps, without which a short run would stay near its start, is that of TensorFlow's
`ExponentialMovingAverage` with `num_updates`. Only accepted steps count.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tunesmith.engine.measured import overwrite

PREFIX = "ema/"
"""Opens its names among the tensors of a checkpoint."""


class Ema:
    """The average so far; it begins at the weights as they are.

    Args:
        trained: The trained parameters by name.
        decay: What is kept of the average at each step once there were many.
    """

    def __init__(self, trained: Mapping[str, Tensor], decay: float) -> None:
        self._trained = dict(trained)
        self._decay = decay
        self._average = {name: p.detach().clone() for name, p in trained.items()}
        self._num_updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an accepted step."""
        self._num_updates += 1
        share = 1.0 - min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        weights = [parameter.detach() for parameter in self._trained.values()]
        torch._foreach_lerp_(list(self._average.values()), weights, share)

    def put(self) -> None:
        """Overwrite the trained parameters with their averages."""
        overwrite(self._trained, self._average)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: not copies."""
        return {PREFIX + name: average for name, average in self._average.items()}

    def state(self) -> dict[str, Any]:
        """What else a checkpoint keeps."""
        return {"updates": self._num_updates}

    def load(self, tensors: Mapping[str, Tensor], state: dict[str, Any]) -> None:
        """Be as a checkpoint says, which `tensors` and `state` gave."""
        overwrite(self._average, {name: tensors[PREFIX + name] for name in self._average})
        self._num_updates = state["updates"]
