"""How much memory autograd keeps for the backward pass: counted while it is kept."""

from collections.abc import Callable

import torch
from torch import Tensor

from tunesmith.data.example import Batch
from tunesmith.methods.base import LossSum


def saved_bytes(loss: Callable[[Batch], LossSum], batch: Batch) -> int:
    """Bytes of all storage that the forward pass of `batch` keeps, weights among them.

    What two passes of different size keep differs by their activations alone. Nothing is trained,
    and no gradient stays.
    """
    storages: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        # A sparse tensor has no storage of its own; what it is made of is small beside the rest.
        if tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss(batch)
    return sum(storages.values())


def bytes_per_token(loss: Callable[[Batch], LossSum], small: Batch, large: Batch) -> float:
    """Activations of one token, from two passes of different size; 0 where they do not differ."""
    tokens = large.input_ids.numel() - small.input_ids.numel()
    if tokens <= 0:
        return 0.0
    return max((saved_bytes(loss, large) - saved_bytes(loss, small)) / tokens, 0.0)
