"""The loop behind every answer: let prompts join, step, choose tokens, let finished rows go.

Rows that end make room at once, and the next prompts take it in the following step, so a batch
stays full until the prompts run out.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from tunesmith.generate.options import GenerateOptions
from tunesmith.generate.padded import PaddedSession
from tunesmith.generate.session import Prompt, Session


@dataclass(slots=True)
class Row:
    """An answer in the making.

    Attributes:
        room: Most tokens it may have.
        stream: Tells it apart from all others, for draws of its own: (prompt, answer).
        tokens: What was chosen, the stop token included.
        log_probs: Of each token, where they were asked for.
        stopped: Whether a stop token ended it.
    """

    room: int
    stream: tuple[int, int] = (0, 0)
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    stopped: bool = False

    @property
    def finished(self) -> bool:
        """Whether nothing follows."""
        return self.stopped or len(self.tokens) >= self.room

    def take(self, token: int, stop_ids: frozenset[int]) -> None:
        """Write `token` down and see whether it ends the answer."""
        self.tokens.append(token)
        self.stopped = token in stop_ids


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and the rows that answer it."""

    ids: Sequence[int]
    rows: list[Row]


Choose = Callable[[Tensor, list[Row]], tuple[list[int], list[float] | None]]
"""(N, V) logits and their rows to the token of each row, and its log-probability if wanted."""


def answer(
    session: Session | PaddedSession,
    asked: Sequence[Asked],
    choose: Choose,
    options: GenerateOptions,
) -> None:
    """Fill the rows of `asked`; prompts join in the given order.

    Args:
        session: With room for the rows of any one prompt.
        asked: Prompts and their rows, which are written to.
        choose: Picks the tokens.
        options: Which tokens end an answer.
    """
    waiting, rows = deque(asked), list[Row]()
    while rows or waiting:
        joining = _joining(session, waiting)
        prompts = [Prompt(one.ids, len(one.rows)) for one in joining]
        logits_NV = session.step([row.tokens[-1] for row in rows], prompts)
        rows += [row for one in joining for row in one.rows]
        tokens, log_probs = choose(logits_NV, rows)
        for i, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            row.take(token, options.stop_ids)
            if log_probs is not None:
                row.log_probs.append(log_probs[i])
        order = _without_gaps([not row.finished for row in rows])
        if len(order) < len(rows):
            session.keep(order)
            rows = [rows[i] for i in order]


def _joining(session: Session | PaddedSession, waiting: deque[Asked]) -> list[Asked]:
    """Take those from `waiting` that the next step has room for."""
    joining: list[Asked] = []
    room, tokens = session.room(), 0
    while waiting and len(waiting[0].rows) <= room:
        tokens += len(waiting[0].ids)
        if joining and session.prompt_tokens is not None and tokens > session.prompt_tokens:
            break
        room -= len(waiting[0].rows)
        joining.append(waiting.popleft())
    return joining


def _without_gaps(going: Sequence[bool]) -> list[int]:
    """Indices of the rows that go on; those from the end fill the gaps, the others stay.

    >>> _without_gaps([True, False, True, False, True])
    [0, 4, 2]
    """
    kept = [i for i, goes in enumerate(going) if goes]
    last = [i for i in kept if i >= len(kept)]
    return [i if going[i] else last.pop() for i in range(len(kept))]
