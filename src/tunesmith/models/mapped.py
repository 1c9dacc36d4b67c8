"""Weights that are read in place from their file, which stays in memory as long as one does.

safetensors maps a file. Where most of its weights have been copied since, into quantised layers or
into one matrix with others, the rest keeps all of it resident.
"""

import re
from pathlib import Path

from torch import nn

SHARE = 0.9
"""Of a mapped file, read in place, from which on it stays."""
_FILE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) .*\.safetensors$", re.MULTILINE)


def let_go(model: nn.Module) -> None:
    """Copy the weights that keep a file of which most is not read any more; on Linux."""
    for start, end in _files():
        inside = [p for p in model.parameters() if start <= p.data_ptr() < end]
        if sum(parameter.nbytes for parameter in inside) < SHARE * (end - start):
            for parameter in inside:
                parameter.data = parameter.data.clone()


def _files() -> list[tuple[int, int]]:
    """First address of each mapped file of weights, and the one behind its last."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return []
    return [(int(found[1], 16), int(found[2], 16)) for found in _FILE.finditer(maps)]
