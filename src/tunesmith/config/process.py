"""Settings of the process, for the C libraries below torch: made before any of them is loaded.

What the user has set in the environment stays as it is. Nothing here changes a number that is
computed.
"""

import os
import sys

SPINS = "2000"
"""Turns that a thread of libgomp waits for the others before it sleeps. Left to itself it spins on,
and so keeps the core from whoever could end the wait: beside one other busy process a step on two
cores took up to 30 times as long. Alone on the machine, 2,000 turns cost nothing (both measured on
two Zen cores with the quickstart)."""

PRIMITIVES = "256"
"""Matrix products of different shapes that oneDNN, and torch's own cache above it, keep ready. Each
holds about 0.65 MB, a step of eight ragged rows brings about 100 new ones, and both caches keep
1,024, which comes to 0.65 GiB. A pass of 786 tokens of the starter uses 48 shapes, most of them 30
times or more; a new one costs 0.7 ms."""

_OPEN = {
    "GOMP_SPINCOUNT": (SPINS, "OMP_WAIT_POLICY"),
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": (PRIMITIVES, "DNNL_PRIMITIVE_CACHE_CAPACITY"),
    "LRU_CACHE_CAPACITY": (PRIMITIVES, ""),
}
"""By variable, its value, and another variable that says the same in the user's place."""


def settle() -> None:
    """Make the settings; to be called before torch is loaded, and harmless later.

    Systems other than Linux are left as they are.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if sys.platform != "linux":
        return
    for name, (value, other) in _OPEN.items():
        if other not in os.environ:
            os.environ.setdefault(name, value)
