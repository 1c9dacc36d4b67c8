"""Measuring in smaller pieces when memory does not suffice."""

import gc
from collections.abc import Callable
from typing import Protocol, Self, TypeVar

import torch

SAYINGS = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch says on a GPU, and what its allocators say on a processor, all as RuntimeError."""


class Shrinks(Protocol):
    """What can be measured in smaller pieces."""

    def smaller(self) -> Self | None:
        """The same in pieces of half the size; None when they are single rows already."""


S = TypeVar("S", bound=Shrinks)
T = TypeVar("T")


def attempt(what: S, measure: Callable[[S], T]) -> tuple[T, S]:
    """Measure, in ever smaller pieces as long as memory runs out.

    Returns:
        What `measure` gave, and the pieces that it could be measured in.

    Raises:
        Exception: What `measure` raised, if that is something else or the pieces are the smallest.
    """
    while True:
        try:
            return measure(what), what
        except Exception as error:
            smaller = what.smaller() if out_of_memory(error) else None
            if smaller is None:
                raise
        # Only here, out of the clause, nothing holds on to the frames of what failed.
        what = smaller
        release()


def out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on whichever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(s in str(error).lower() for s in SAYINGS)


def release() -> None:
    """Give back what a failed attempt left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
