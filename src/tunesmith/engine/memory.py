"""How much memory this process has used and may use."""

import resource
import sys

import psutil
import torch

GIB = float(1 << 30)


def peak_gib(device: torch.device) -> float:
    """Peak so far in GiB: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    # ru_maxrss is in KiB on Linux and in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def available_gib(device: torch.device) -> float:
    """Memory that this process could have in all, in GiB."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return (free + torch.cuda.memory_reserved(device)) / GIB
    process = psutil.Process().memory_info().rss
    return (psutil.virtual_memory().available + process) / GIB
