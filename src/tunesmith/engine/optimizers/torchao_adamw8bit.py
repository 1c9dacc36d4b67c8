"""AdamW with both moments in 8 bits, compiled by torch for the device at hand.

8-bit Optimizers via Block-wise Quantization, arXiv:2110.02861; the code is torchao's.
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
    return Choice(imported("torchao.optim", "torchao_adamw8bit", "optimizers").AdamW8bit)
