"""A share of the rows held out: which ones depends on each row alone."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from tunesmith.data.row import Row
from tunesmith.errors import DataError


@dataclass(frozen=True, slots=True)
class Part:
    """One side of a split.

    Rows that are equal lie on one side, and no row changes sides when others come or go.

    Attributes:
        share: Of the rows that are held out, about: each is with this probability.
        heldout: Whether this is the side of those, or the other.
        files: How many of the files, from the first one, are split.
    """

    share: float
    heldout: bool
    files: int

    def of(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Yields the rows of this side."""
        return (row for row in rows if (place(row.raw) < self.share) == self.heldout)

    def empty(self) -> DataError:
        """The error for a side without rows."""
        side = "held out" if self.heldout else "left to train on"
        return DataError(
            "data.eval",
            got=f"no row {side}, at a share of {self.share:g}",
            expected="at least one",
            hint="choose another share, or name a file of held-out rows",
        )


def place(row: dict) -> float:
    """Where a record lies between 0 and 1; the order of its keys does not matter."""
    text = json.dumps(row, sort_keys=True, default=str)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64
