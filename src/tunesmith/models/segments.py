"""Where the segments of a pack lie, and what of the pack each of them sees.

A pack is segments end to end. Most are examples: each sees itself alone. Where several examples
begin alike, what they share is one segment, and what each has of its own is one that continues it:
it sees all of the shared one before itself, and never its siblings.
"""

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens of a pack from `start` to `stop`, which also see those from `shared` to `end`.

    Attributes:
        start: First token of its own.
        stop: Behind the last.
        shared: First token of the prefix that it continues.
        end: Behind the last of these; the same as `shared` without a prefix.
    """

    start: int
    stop: int
    shared: int = 0
    end: int = 0

    @property
    def num_own(self) -> int:
        """Tokens of its own."""
        return self.stop - self.start

    @property
    def num_shared(self) -> int:
        """Tokens of the prefix."""
        return self.end - self.shared


@lru_cache(maxsize=16)  # Every layer asks for the same.
def segments(
    lengths: tuple[int, ...], prefixes: tuple[int | None, ...] | None = None
) -> tuple[Segment, ...]:
    """The segments of a pack, in order.

    Args:
        lengths: Tokens of each.
        prefixes: The number of the segment that each continues, an earlier one that continues
            none itself; None for those that begin an example, and altogether if all do.

    Raises:
        ValueError: There are not as many of both, or a prefix is not one of those it may be.
    """
    prefixes = (None,) * len(lengths) if prefixes is None else prefixes
    found: list[Segment] = []
    at = 0
    for length, prefix in zip(lengths, prefixes, strict=True):
        own = (at, at + length)
        if prefix is None:
            found.append(Segment(*own))
        elif 0 <= prefix < len(found) and prefixes[prefix] is None:
            found.append(Segment(*own, found[prefix].start, found[prefix].stop))
        else:
            raise ValueError(f"segment {len(found)} continues {prefix}, which begins no example")
        at += length
    return tuple(found)
