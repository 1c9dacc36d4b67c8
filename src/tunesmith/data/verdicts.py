"""Encoder of answers with a verdict, each beside an answer that was given to something else.

Whoever judges answers one by one needs a point to judge from: how far the model has moved at all.
It is measured on answers that do not belong to their prompt (arXiv:2402.01306, section 4.1). Which
one stands beside a row is a function of the file alone: the next one among those that were
announced together. So no layout of a step, and no resuming, changes it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256

from tunesmith.data.encoded import Encoded, together
from tunesmith.data.preferences import encode_pair, require_answers, sides
from tunesmith.data.row import Content, Conversation, Judged, Preference, RowProblem
from tunesmith.data.template import Renderer

GOOD = "good"
"""Name of the numbers that every example has: 1 for a good answer, 0 for a bad one."""

TRIES = 8
"""Other rows that are tried until the answer of one can stand behind a prompt."""


class JudgedEncoder:
    """An answer with its verdict; a preference makes two, a good one and a bad one.

    Args:
        renderer: Encodes each conversation.
        others: Whether a second sequence follows: the same prompt with the answer of another row.

    Raises:
        RecipeError: `data.train_on: all` would count the prompt as part of the answer.
    """

    shapes = frozenset({"judged", "preference"})

    def __init__(self, renderer: Renderer, others: bool = True) -> None:
        require_answers(renderer)
        self._renderer, self._others = renderer, others
        self._announced: list[Content] = []
        self._before: list[Content] = []

    @property
    def fingerprint(self) -> str:
        """Of the renderer, and what is made of it."""
        return sha256(f"judged {self._others} {self._renderer.fingerprint}".encode()).hexdigest()

    def look_ahead(self, contents: Sequence[Content]) -> None:
        """Remember the rows: their answers stand beside those of each other."""
        self._before, self._announced = self._announced, list(contents)
        wanted = [one for each in contents for one in _conversations(each)]
        if self._others:
            first = (next(self._elsewhere(each), None) for each in contents)
            pairs = zip(contents, first, strict=True)
            wanted += [_moved(_conversations(each)[0], other) for each, other in pairs if other]
        self._renderer.look_ahead(wanted)

    def examples(self, content: Content) -> list[Encoded]:
        """One example for an answer, two for a preference.

        Raises:
            RowProblem: An answer cannot be trained on, or there is no other to put beside it.
        """
        if isinstance(content, Preference):
            good, bad = encode_pair(self._renderer, content)
            judged = [(good, True), (bad, False)]
        else:
            judged = [(self._renderer.encode(content.conversation), content.good)]
        return [self._example(content, real, good) for real, good in judged]

    def _example(self, content: Content, real: Encoded, good: bool) -> Encoded:
        numbers = {GOOD: float(good)}
        if not self._others:
            return together([real], numbers)
        # A row that is too long is left out or refused: no prompt need be cut for it.
        fits = len(real.input_ids) <= self._renderer.max_tokens
        return together([real, self._beside(content) if fits else real], numbers)

    def _beside(self, content: Content) -> Encoded:
        """The prompt of a row with the answer of another."""
        prompt, cut = _conversations(content)[0], None
        for _, other in zip(range(TRIES), self._elsewhere(content), strict=False):
            try:
                found = self._renderer.encode(_moved(prompt, other))
            except RowProblem:
                continue
            if len(found.input_ids) <= self._renderer.max_tokens:
                return found
            cut = cut or self._cut(found)
        if cut is None:
            raise RowProblem(
                "no answer of another row that fits behind this prompt",
                "at least two rows, whose answers are compared",
            )
        return cut

    def _cut(self, encoded: Encoded) -> Encoded | None:
        """The beginning, marked as truncated; None where nothing of the answer is left."""
        most = self._renderer.max_tokens
        ids, trained = encoded.input_ids[:most], encoded.trained[:most]
        return Encoded(ids, trained, encoded.prompt_tokens, True) if trained.any() else None

    def _elsewhere(self, content: Content) -> Iterator[Conversation]:
        """Answers of other rows with other prompts: those behind it first, the last ones before."""
        at = next((n for n, each in enumerate(self._announced) if each is content), 0)
        rows = [*self._announced[at + 1 :], *self._announced[:at], *reversed(self._before)]
        asked = _conversations(content)[0].messages[:-1]
        for row in rows:
            for conversation in _conversations(row)[:1]:
                if conversation.messages[:-1] != asked:
                    yield conversation


def _conversations(content: Content) -> list[Conversation]:
    """The conversation of a row, or both of a preference."""
    return [content.conversation] if isinstance(content, Judged) else list(sides(content))


def _moved(prompt: Conversation, other: Conversation) -> Conversation:
    """The prompt of one row with the answer of another."""
    return replace(prompt, messages=(*prompt.messages[:-1], other.messages[-1]))
