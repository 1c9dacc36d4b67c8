"""How the examples of a step are laid out in forward passes: evenly, without waste.

A loss is a sum and a count, so any layout of a step gives the same gradient; what differs is time
and memory. Packed examples are dealt out by cost, so that passes are even: the largest one sets the
memory, and processes that share a step wait for it. Padded examples are put beside those of like
length.
"""

from dataclasses import dataclass

import numpy as np

ATTENTION_TOKENS = 4096
"""Length at which attention costs about as much as all else of a small model; see `costs`."""

PASS_COST = 32
"""Tokens that a forward pass costs before its first one: what a padded layout pays for another
pass, and saves in padding."""


def costs(lengths: np.ndarray) -> np.ndarray:
    """(N,) float64 cost of each example, in tokens: its own, and their square for attention."""
    tokens = lengths.astype(np.float64)
    return tokens + np.square(tokens) / ATTENTION_TOKENS


@dataclass(frozen=True, slots=True)
class Layout:
    """What a forward pass may hold, and how a step is dealt out to passes.

    Attributes:
        packed: Examples end to end; otherwise side by side, each padded to the longest.
        max_rows: Most examples of a pass; None for any number.
        max_tokens: Most tokens of a pass, padding included; None for any number. An example that is
            longer by itself gets a pass of its own.
        best_tokens: Tokens beyond which a larger pass gains no speed on this device, only memory;
            None where larger is always better.
        ahead: Virtual tokens that are computed before each example.
    """

    packed: bool
    max_rows: int | None = None
    max_tokens: int | None = None
    best_tokens: int | None = None
    ahead: int = 0

    def passes(self, lengths: np.ndarray) -> list[np.ndarray]:
        """The passes of one step, the most expensive first.

        Args:
            lengths: (N,) tokens of each example of the step, N at least 1.

        Returns:
            For each pass the indices of its examples, ascending. A function of its arguments alone.
        """
        whole = lengths + self.ahead
        passes = self._even(whole) if self.packed else self._alike(whole)
        passes = [np.sort(each) for each in passes if len(each)]
        # The first index breaks ties. Largest first: memory that it leaves is enough for the rest.
        return sorted(passes, key=lambda each: (-self.cost(lengths[each]), each[0]))

    def cost(self, lengths: np.ndarray) -> float:
        """Cost of a pass in tokens."""
        return float(costs(self.counted(lengths)).sum())

    def counted(self, lengths: np.ndarray) -> np.ndarray:
        """Tokens computed for each example of a pass: with padding, as many as the longest has."""
        whole = lengths + self.ahead
        return whole if self.packed else np.full_like(whole, whole.max())

    def most(self, lengths: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """(S,) a bound on the cost of the costliest pass of each step, found without planning it.

        Args:
            lengths: (N,) of all examples, step by step.
            starts: (S,) where each step begins.
        """
        lengths = lengths + self.ahead
        rows = np.diff(np.append(starts, len(lengths)))
        longest = np.maximum.reduceat(lengths, starts)
        largest = costs(longest)
        if not self.packed:
            most_rows = np.minimum(rows, self.max_rows or rows.max())
            cells = most_rows * longest
            if self._tokens is not None:
                cells = np.minimum(cells, np.maximum(self._tokens, longest))
            return cells * (largest / longest)
        total = np.add.reduceat(costs(lengths), starts)
        tokens = np.add.reduceat(lengths.astype(np.int64), starts)
        return np.minimum(total, total / self._least(rows, tokens) + largest)

    @property
    def _tokens(self) -> int | None:
        """Tokens that a pass should not exceed."""
        return min((t for t in (self.max_tokens, self.best_tokens) if t is not None), default=None)

    def _least(self, rows: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """How many packed passes so many rows and tokens need at least."""
        by_rows = -(-rows // self.max_rows) if self.max_rows else np.ones_like(rows)
        by_tokens = -(-tokens // self._tokens) if self._tokens else np.ones_like(rows)
        return np.minimum(rows, np.maximum(by_rows, by_tokens))

    def _even(self, lengths: np.ndarray) -> list[np.ndarray]:
        """Packed passes of about equal cost, as few as the limits allow."""
        rows, cost = len(lengths), costs(lengths)
        least = int(self._least(np.array([rows]), np.array([lengths.sum()]))[0])
        most_rows = self.max_rows or rows
        for number in range(least, rows + 1):
            passes = deal(cost, number, most_rows)
            if self.max_tokens is None or all(
                len(each) == 1 or lengths[each].sum() <= self.max_tokens for each in passes
            ):
                break
        return passes

    def _alike(self, lengths: np.ndarray) -> list[np.ndarray]:
        """Padded passes of least cost: the examples by length, cut at the best places."""
        order = np.argsort(-lengths, kind="stable")
        ordered = lengths[order]
        limit = self._tokens or np.inf
        best, cut = [0.0], [0]
        for stop in range(1, len(order) + 1):
            start = np.arange(max(0, stop - (self.max_rows or stop)), stop)
            rows = stop - start
            fits = (rows == 1) | (rows * ordered[start] <= limit)
            total = np.array(best)[start] + PASS_COST + rows * costs(ordered[start])
            chosen = int(np.where(fits, total, np.inf).argmin())
            best.append(float(total[chosen]))
            cut.append(int(start[chosen]))
        passes, stop = [], len(order)
        while stop:
            passes.append(order[cut[stop] : stop])
            stop = cut[stop]
        return passes


def deal(cost: np.ndarray, number: int, most_rows: int) -> list[np.ndarray]:
    """Deals examples out to passes of about equal cost.

    The costliest first, to and fro over the passes, which bounds the largest by the mean and one
    example; then examples of the fullest pass are moved, or exchanged with one of another, as long
    as the larger of the two shrinks.

    Args:
        cost: (N,) of each example.
        number: Passes.
        most_rows: Most examples of a pass; `number` times it is at least N.

    Returns:
        `number` arrays of indices.
    """
    order = np.argsort(-cost, kind="stable")
    to_and_fro = np.concatenate([np.arange(number), np.arange(number)[::-1]])
    owner = np.empty(len(cost), dtype=np.int64)
    owner[order] = np.resize(to_and_fro, len(cost))
    if number > 1:
        while _improve(cost, owner, number, most_rows):
            pass
    return [np.flatnonzero(owner == each) for each in range(number)]


def _improve(cost: np.ndarray, owner: np.ndarray, number: int, most_rows: int) -> bool:
    """Makes the best move out of the fullest pass, in place; says whether one helped."""
    sums = np.bincount(owner, weights=cost, minlength=number)
    rows = np.bincount(owner, minlength=number)
    full = int(sums.argmax())
    mine = np.flatnonzero(owner == full)
    theirs = np.flatnonzero(owner != full)
    # What leaves the fullest pass: one of its examples, less the one that comes back for it.
    leaves = cost[mine, None] - np.append(cost[theirs], np.zeros(number))[None, :]
    to = np.append(owner[theirs], np.arange(number))
    allowed = np.append(np.ones(len(theirs), dtype=bool), rows < most_rows)
    allowed[len(theirs) + full] = False
    larger = np.maximum(sums[full] - leaves, sums[to][None, :] + leaves)
    larger[:, ~allowed] = np.inf
    take, back = np.unravel_index(int(larger.argmin()), larger.shape)
    if larger[take, back] >= sums[full] * (1 - 1e-12):
        return False
    owner[mine[take]] = to[back]
    if back < len(theirs):
        owner[theirs[back]] = full
    return True
