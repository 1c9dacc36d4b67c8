"""AdamW with both moments in 8 bits, each block of 256 numbers with a scale of its own.

8-bit Optimizers via Block-wise Quantization, arXiv:2110.02861; the kernels are bitsandbytes'.
Tensors of less than 4,096 numbers keep moments of 32 bits, as there.
"""

import torch

from tunesmith.engine.optimizers.base import Choice, imported


def choice(device: torch.device) -> Choice:
    """Works on processors and on GPUs.

    Raises:
        MachineError: bitsandbytes is not installed.
    """
    return Choice(imported("bitsandbytes.optim", "adamw8bit", "quant").AdamW8bit)
