"""Settings of the process, for the C libraries below torch: made before any of them computes.

What the user has set in the environment stays as it is. Nothing here changes a number that is
computed.
"""

import ctypes
import os
import sys

SPINS = "2000"
"""Turns that a thread of libgomp waits for the others before it sleeps. Its own choice is to spin
on, which takes the core from whoever could end the wait. TODO measurement"""

_WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
_ALLOCATING = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")

MALLOC = {-3: 1 << 22, -1: 1 << 28, -2: 1 << 26}
"""glibc's mallopt: (numbers from malloc.h) TODO measurement"""


def settle() -> None:
    """Make the settings; to be called before torch is loaded, and harmless later.

    Systems other than Linux with glibc are left as they are.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if sys.platform != "linux":
        return
    if not any(name in os.environ for name in _WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPINS
    if not any(name.startswith(_ALLOCATING) for name in os.environ):
        _set_malloc()


def _set_malloc() -> None:
    """Tell glibc's allocator; other C libraries have no `mallopt`, or ignore it."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for name, value in MALLOC.items():
        mallopt(name, value)
