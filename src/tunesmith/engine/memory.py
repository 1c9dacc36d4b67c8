"""How much memory this process has used and may use."""

import resource
import sys
from pathlib import Path

import psutil
import torch

GIB = float(1 << 30)

_CGROUP = Path("/sys/fs/cgroup/memory.max")
"""The limit of a container, as it sees itself (cgroup v2): a number of bytes, or `max`."""


def peak_gib(device: torch.device) -> float:
    """Peak so far in GiB: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    # ru_maxrss is in KiB on Linux and in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def resident_gib(device: torch.device) -> float:
    """What this process holds now, in GiB: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / GIB
    return psutil.Process().memory_info().rss / GIB


def available_gib(device: torch.device) -> float:
    """Memory that this process could have in all, in GiB."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return (free + torch.cuda.memory_reserved(device)) / GIB
    return min(psutil.virtual_memory().available / GIB + resident_gib(device), _limit_gib())


def _limit_gib() -> float:
    """What the container of this process may use in all, in GiB; infinite without one."""
    try:
        text = _CGROUP.read_text(encoding="ascii").strip()
    except OSError:
        return float("inf")
    return int(text) / GIB if text.isdigit() else float("inf")
