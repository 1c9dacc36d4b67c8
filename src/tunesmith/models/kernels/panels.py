"""Panels: columns of a matrix that lie together, and which rows of each are not zero."""

from collections.abc import Sequence

import torch
from torch import Tensor

Blocks = Sequence[tuple[slice, slice]]
"""Rows and columns of the only parts of a matrix that are not zero; none stands for all of it."""


def ranges(inner: int, num_panels: int, width: int, blocks: Blocks, unit: int) -> Tensor:
    """(panels, 2) int64, first and last of the units of rows that are not zero in each panel.

    Args:
        inner: Rows of the matrix, a whole number of units.
        num_panels: Panels of its layout.
        width: Columns of a panel.
        blocks: All that is not zero; the union, for a panel that parts share.
        unit: Rows that are read together.
    """
    if not blocks:
        return torch.tensor([[0, inner // unit]] * num_panels)
    found = []
    for start in range(0, num_panels * width, width):
        seen = [
            rows
            for rows, columns in blocks
            if columns.start < start + width and columns.stop > start and rows.stop > rows.start
        ]
        first = min((rows.start // unit for rows in seen), default=0)
        found.append([first, max((-(-rows.stop // unit) for rows in seen), default=first)])
    return torch.tensor(found)
