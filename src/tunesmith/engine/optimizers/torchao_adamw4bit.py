"""AdamW with both moments in 4 bits, compiled by torch for the device at hand.

Memory Efficient Optimizers with 4-bit States, arXiv:2309.01507; the code is torchao's.
Tensors of less than 4,096 numbers, or of a number that blocks do not divide, keep moments of 32
bits. torch.compile needs a C++ compiler on a processor, and takes some seconds for each shape.
"""

import torch

from tunesmith.engine.optimizers.base import Choice, imported


def choice(device: torch.device) -> Choice:
    """Works on processors and on GPUs.

    Raises:
        MachineError: torchao is not installed.
    """
    return Choice(imported("torchao.optim", "torchao_adamw4bit", "optimizers").AdamW4bit)
