"""Counts what becomes of the rows while they are prepared."""

from collections.abc import Callable
from typing import Protocol

from tunesmith.data.encoded import Encoded
from tunesmith.data.prepared import Counts
from tunesmith.data.row import Row, RowProblem, place
from tunesmith.errors import DataError

MAX_PROBLEMS = 100
"""Skipped rows that are listed; all are counted."""

MAX_LISTED = 10
"""Over-long rows that the error names."""

PROGRESS_ROWS = 500
"""Rows between two calls of `progress`."""


class LengthOptions(Protocol):
    """The part of `store.PrepareOptions` that is about lengths."""

    @property
    def max_tokens(self) -> int:
        """Longest example."""

    @property
    def overlong(self) -> str:
        """error, drop or truncate."""


class Tally:
    """Running counts.

    Args:
        hashes: SHA-256 of each file, by path.
        progress: Called every PROGRESS_ROWS rows with the number of rows read.
    """

    def __init__(self, hashes: dict[str, str], progress: Callable[[int], None] | None) -> None:
        self._hashes, self._progress = hashes, progress
        self.rows = self.dropped = self.truncated = self.cuts = self.skipped = 0
        self.tokens = self.tokens_trained = self.num_overlong = self._longest = 0
        self._shapes: dict[str, str] = {}
        self._overlong: list[str] = []
        self.problems: list[tuple[str, int, str]] = []

    def skip(self, source: str, number: int, problem: RowProblem) -> None:
        """Notes a bad row; an `OnBad`."""
        self.skipped += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append((source, number, str(problem)))
        self._report()

    def is_overlong(self, row: Row, encoded: Encoded, options: LengthOptions) -> bool:
        """Whether the row is left out for its longest sequence; counts it then."""
        length = max(encoded.parts, default=len(encoded.input_ids))
        if length <= options.max_tokens:
            return False
        if options.overlong == "drop":
            self.dropped += 1
        else:
            self.num_overlong += 1
            self._longest = max(self._longest, length)
            if len(self._overlong) < MAX_LISTED:
                self._overlong.append(f"{place(row.source, row.number)} ({length})")
        self._report()
        return True

    def add(self, row: Row, encoded: Encoded) -> None:
        """Counts a row that became an example."""
        self.rows += 1
        self.truncated += encoded.truncated
        self.cuts += encoded.open_end
        self.tokens += len(encoded.input_ids)
        self.tokens_trained += int(encoded.trained.sum())
        self._shapes[row.source] = row.shape
        self._report()

    def check_lengths(self, options: LengthOptions) -> None:
        """Raises when rows were too long and that is an error.

        Raises:
            DataError: Names the first of them with their tokens, and how many there are.
        """
        if not self.num_overlong:
            return
        more = self.num_overlong - len(self._overlong)
        listed = ", ".join(self._overlong) + (f" and {more} more" if more else "")
        rows = "1 row" if self.num_overlong == 1 else f"{self.num_overlong} rows"
        raise DataError(
            "data.max_tokens",
            got=f"{rows} with more than {options.max_tokens} tokens: {listed}",
            expected=f"at most {options.max_tokens} tokens a row",
            hint=f"raise data.max_tokens to {self._longest}, "
            "or set data.overlong to drop or truncate",
        )

    def counts(self) -> Counts:
        """The counts so far."""
        return Counts(
            self.rows,
            self.dropped,
            self.truncated,
            self.cuts,
            self.skipped,
            self.tokens,
            self.tokens_trained,
            dict(self._shapes),
            dict(self._hashes),
        )

    def _report(self) -> None:
        """Tells how many rows were read, now and then."""
        seen = self.rows + self.dropped + self.skipped + self.num_overlong
        if self._progress and seen % PROGRESS_ROWS == 0:
            self._progress(seen)
