"""Encoders of rows that compare: two answers to a prompt, or an answer and a verdict.

Each sequence keeps the token contract by itself: it is encoded by the renderer like any
conversation, trained on the answer alone. `data.overlong: truncate` cuts the end of an answer as
everywhere and leaves the prompt whole, so that what inference sees is still what was trained on;
answers that the cut makes equal are refused. A cut answer has no stop token, so preferences over
length are learned from `drop` or from a larger `max_tokens`.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256

import numpy as np

from tunesmith.data.encoded import Encoded, together
from tunesmith.data.row import Content, Conversation, Preference, RowProblem
from tunesmith.data.template import Renderer
from tunesmith.errors import RecipeError

MARGIN = "margin"
"""Name of the numbers that `PairEncoder` gives: how much better the chosen answer is."""


class PairEncoder:
    """A preference as an example of two sequences: the chosen answer, then the rejected one.

    Args:
        renderer: Encodes each conversation.
        margins: Whether examples come with `numbers["margin"]`; then every row must have one.

    Raises:
        RecipeError: `data.train_on: all` would count the prompt as part of the answers.
    """

    shapes = frozenset({"preference"})

    def __init__(self, renderer: Renderer, margins: bool = False) -> None:
        require_answers(renderer)
        self._renderer, self._margins = renderer, margins

    @property
    def fingerprint(self) -> str:
        """Of the renderer, and what is made of it."""
        parts = f"pairs {self._margins} {self._renderer.fingerprint}"
        return sha256(parts.encode()).hexdigest()

    def look_ahead(self, contents: Sequence[Content]) -> None:
        """Prepare the texts of both sides."""
        self._renderer.look_ahead([side for each in contents for side in sides(each)])

    def examples(self, content: Preference) -> list[Encoded]:
        """The one example of a row.

        Raises:
            RowProblem: A side cannot be trained on, both are the same tokens, or the row has no
                margin and the method asks for it.
        """
        chosen, rejected = encode_pair(self._renderer, content)
        numbers = {MARGIN: _margin(content)} if self._margins else {}
        return [together([chosen, rejected], numbers)]


def require_answers(renderer: Renderer) -> None:
    """Raises unless only answers are trained.

    Raises:
        RecipeError: See `PairEncoder`.
    """
    if renderer.train_on == "all":
        raise RecipeError(
            "data.train_on",
            got="all, with a method that compares answers",
            expected="assistant or last: the prompt is no part of an answer",
        )


def encode_pair(renderer: Renderer, content: Preference) -> tuple[Encoded, Encoded]:
    """Both sides of a preference; raises as `PairEncoder.examples` does."""
    chosen, rejected = (renderer.encode(side) for side in sides(content))
    if np.array_equal(chosen.input_ids, rejected.input_ids):
        cut = f" within the first {renderer.max_tokens}" if chosen.truncated else ""
        raise RowProblem(
            f"chosen and rejected are the same tokens{cut}",
            "two different answers",
            "raise data.max_tokens" if cut else "remove the row, or set data.on_bad_row: skip",
        )
    return chosen, rejected


def sides(content: Content) -> Iterator[Conversation]:
    """The conversations of a preference, the chosen one first; none of another content."""
    if isinstance(content, Preference):
        yield content.chosen
        yield content.rejected


def _margin(content: Preference) -> float:
    if content.margin is None:
        raise RowProblem(
            "no margin",
            "margin, or chosen_score and rejected_score, in every row",
            "add it, or leave out the key of method that asks for margins",
        )
    return content.margin
