"""One SHA-256 over many tensors: equal only if every bit is."""

import hashlib
from typing import Any

import torch


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, types and bytes."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def flat(state: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    """Tensors and numbers of a nested state by path."""
    if isinstance(state, torch.Tensor):
        return {prefix: state.reshape(state.shape or (1,))}
    if isinstance(state, bool | int | float):
        return {prefix: torch.tensor([state], dtype=torch.float64)}
    parts = state.items() if isinstance(state, dict) else enumerate(state or ())
    if isinstance(state, str):
        return {}
    return {k: v for key, part in parts for k, v in flat(part, f"{prefix}/{key}").items()}
