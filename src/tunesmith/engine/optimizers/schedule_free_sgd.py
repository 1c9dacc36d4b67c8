"""Schedule-free SGD: `schedule_free_adamw` with plain gradients (arXiv:2405.15682, eq. 1 to 3).

    y_t = (1 - beta) z_t + beta x_t,   z_{t+1} = z_t - rate * gradient(y_t)

x, the average of all z, is measured and exported.
"""

import torch

from tunesmith.engine.optimizers._schedule_free import choice_of
from tunesmith.engine.optimizers.base import Choice


def choice(device: torch.device) -> Choice:
    """Works on every device, with `train.schedule: constant`.

    Raises:
        MachineError: schedulefree is not installed.
    """
    return choice_of("schedule_free_sgd", "SGDScheduleFree")
