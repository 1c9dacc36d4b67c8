"""Noise on embeddings while a model is trained.

    x' = x + alpha / sqrt(L d) * u,    u uniform in [-1, 1]

NEFTune, arXiv:2310.05914, algorithm 1; L is the length of the example in tokens, d the width. TRL
and the authors take the length of the padded batch for L; here an example is disturbed alike
whatever it shares a batch or a pack with.

Legend: B lines, T tokens of a line, D width.
"""

import torch
from torch import Tensor

from tunesmith.models.batch import Batch


def disturbed(embedded_BTD: Tensor, batch: Batch, alpha: float) -> Tensor:
    """Embeddings with noise, in their own type; drawn from torch's global state.

    Args:
        embedded_BTD: Of `batch.input_ids`.
        batch: Packed, each segment an example, or padded.
        alpha: The paper takes 5, 10 and 15.
    """
    width = embedded_BTD.shape[-1]
    lengths = torch.tensor(batch.lengths, device=embedded_BTD.device)
    sizes = alpha / (lengths * width).float().sqrt()
    scale_BT1 = (sizes.repeat_interleave(lengths)[None] if batch.packed else sizes[:, None])[
        ..., None
    ]
    noise_BTD = torch.empty_like(embedded_BTD, dtype=torch.float32).uniform_(-1.0, 1.0)
    return embedded_BTD + (noise_BTD * scale_BT1).to(embedded_BTD.dtype)
