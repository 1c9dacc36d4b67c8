"""Schedule-free AdamW: an average of the weights in place of a schedule.

    y_t = (1 - beta) z_t + beta x_t             gradients are taken at y
    z_{t+1} = z_t - rate * adam(gradient)
    x_{t+1} = (1 - c_{t+1}) x_t + c_{t+1} z_{t+1}     x is measured and exported

The Road Less Scheduled, arXiv:2405.15682, eq. 1 to 3 and algorithm 1; the code is `schedulefree`'s.
The model holds y while it is trained, and a checkpoint holds y and z.
"""

import torch

from tunesmith.engine.optimizers._schedule_free import choice_of
from tunesmith.engine.optimizers.base import Choice


def choice(device: torch.device) -> Choice:
    """Works on every device, with `train.schedule: constant`.

    Raises:
        MachineError: schedulefree is not installed.
    """
    return choice_of("schedule_free_adamw", "AdamWScheduleFree")
