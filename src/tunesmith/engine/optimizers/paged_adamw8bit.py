"""8-bit AdamW whose moments move to the memory of the processor while a GPU needs its own.

QLoRA, arXiv:2305.14314, section 3, "paged optimizers"; the kernels are bitsandbytes'. After a
resume the moments lie in the GPU's memory, in the same bits: what a checkpoint gives back is not
paged any more.
"""

import torch

from tunesmith.engine.optimizers.base import Choice, imported
from tunesmith.errors import RecipeError


def choice(device: torch.device) -> Choice:
    """For GPUs: on a processor there is nowhere to page to.

    Raises:
        RecipeError: Training runs on a processor.
        MachineError: bitsandbytes is not installed.
    """
    if device.type == "cpu":
        raise RecipeError(
            "train.optimizer",
            got="paged_adamw8bit on cpu",
            expected="a GPU, whose memory it relieves",
            hint="train.optimizer: adamw8bit has the same moments",
        )
    return Choice(imported("bitsandbytes.optim", "paged_adamw8bit", "quant").PagedAdamW8bit)
