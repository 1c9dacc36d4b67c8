"""Memory for results of kernels: from malloc, which gives what was freed to the next of its size.

torch asks for aligned memory. For that the C library of many systems (glibc before 2.38) takes no
piece that is not larger than wanted, so that the result of a layer never goes where that of the
layer before has been: 0.3 of 2.2 GiB in a LoRA run of the starter were such holes. NumPy asks
malloc, and for large pages, which take less time to come.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

ALIGNED = 64
"""Bytes: a line of the cache, and the widest vector."""
SMALL = 1 << 16
"""Bytes below which torch's own memory is taken."""


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A contiguous tensor on the CPU, with whatever was there."""
    num_bytes = prod(shape) * dtype.itemsize
    if num_bytes < SMALL:
        return torch.empty(shape, dtype=dtype)
    memory = torch.from_numpy(np.empty(num_bytes + ALIGNED, np.uint8))
    start = -memory.data_ptr() % ALIGNED // dtype.itemsize
    # Not a view of the memory: what autograd hands on may be changed in place.
    return torch.empty(0, dtype=dtype).set_(memory.untyped_storage(), start, tuple(shape))


def empty_like(x: Tensor) -> Tensor:
    """The same, in the shape and type of `x`."""
    return empty(x.shape, x.dtype)
