"""Which number type the forward and backward pass run in on this machine."""

from functools import cache
from time import perf_counter

import torch

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
MARGIN = 1.3
"""bf16 is taken when it is at least this much faster: within noise, exact numbers win."""


def resolve(precision: str, device: torch.device) -> str:
    """`auto` becomes bf16 or fp32 by a measurement of about 50 ms; others stay as they are.

    A flag of the processor is not enough: some emulate bf16 at a tenth of the speed of fp32.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    fp32, bf16 = _seconds(torch.float32, device), _seconds(torch.bfloat16, device)
    return "bf16" if fp32 > MARGIN * bf16 else "fp32"


def lag(precision: str, device: torch.device) -> float:
    """How many times as long products take in this type as in fp32, here; 1 where it does not lag.

    Args:
        precision: As `resolve` gives it.
        device: Of the run. Where there is no bf16 on a GPU, torch says so itself.
    """
    if precision == "fp32" or device.type == "cuda":
        return 1.0
    slower = _seconds(DTYPES[precision], device) / _seconds(torch.float32, device)
    return slower if slower > MARGIN else 1.0


@cache
def _seconds(dtype: torch.dtype, device: torch.device) -> float:
    """Best of several products of the size of a small model's layers; measured once a process."""
    x = torch.ones(512, 576, dtype=dtype, device=device)
    w = torch.ones(1536, 576, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(8):
        start = perf_counter()
        torch.nn.functional.linear(x, w)
        best = min(best, perf_counter() - start)
    return best
