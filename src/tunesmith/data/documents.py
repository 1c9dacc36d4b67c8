"""Documents to examples for continued pretraining: cut to the full length, no token lost.

A document is tokenised whole and then cut, so the ids on both sides of a cut are those of the whole
document, and a character that is several tokens may lie on both. Nothing overlaps: the first token
of an example is the only one that is read and not predicted.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tunesmith.data.encoded import Encoded
from tunesmith.data.row import RowProblem, Text
from tunesmith.data.template import Renderer

BYTES = "bytes"
"""Of the numbers of an example: bytes of UTF-8 that its trained tokens stand for."""


class Documents:
    """Turns texts into examples of at most the renderer's `max_tokens`.

    Args:
        renderer: Of the base; frames a document with its BOS and its end token.
        across: Whether documents are laid end to end before they are cut, so that every example but
            the last of a file is full, and those in one example see each other. Otherwise each
            document makes examples of its own.
    """

    def __init__(self, renderer: Renderer, across: bool) -> None:
        self._renderer, self._across = renderer, across
        self._held: list[np.ndarray] = []

    @property
    def shapes(self) -> frozenset[str]:
        """Texts alone."""
        return frozenset({"text"})

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the tokens, and how documents are laid together."""
        return f"documents, across {self._across}, {self._renderer.fingerprint}"

    def look_ahead(self, contents: Sequence[Text]) -> None:
        """A text needs no preparing."""

    def examples(self, content: Text) -> list[Encoded]:
        """The examples of a document, or those that became full with it.

        Raises:
            RowProblem: The document is a single token, from which nothing can be predicted.
        """
        tokens = self._tokens(content.text)
        if tokens.shape[1] < 2:
            raise RowProblem("a text of one token", "at least two: the first is only read")
        self._held.append(tokens)
        return self._cut(whole=not self._across)

    def rest(self) -> list[Encoded]:
        """What is held of documents laid end to end, at the end of a file."""
        return self._cut(whole=True) if self._held else []

    def _tokens(self, text: str) -> np.ndarray:
        """(3, T) int32 of a document: ids, bytes of each, and whether the document begins there."""
        tokenizer = self._renderer.tokenizer
        encoded = tokenizer(
            text,
            add_special_tokens=False,
            return_attention_mask=False,
            return_offsets_mapping=tokenizer.is_fast,
            verbose=False,
        )
        inner = encoded["input_ids"]
        ids = self._renderer.framed(inner)
        front = int(ids[:1] != inner[:1])
        tokens = np.zeros((3, len(ids)), dtype=np.int32)
        tokens[0] = ids
        tokens[1, front : front + len(inner)] = _bytes(text, encoded, len(inner))
        tokens[2, 0] = 1
        return tokens

    def _cut(self, whole: bool) -> list[Encoded]:
        """Examples from what is held: all of it, or the full ones."""
        tokens, most = np.concatenate(self._held, axis=1), self._renderer.max_tokens
        length = tokens.shape[1]
        # What stays is at least two tokens, so that it can become an example by itself.
        bounds = cuts(length, most) if whole else [*range(0, length - 1, most)]
        self._held = [] if whole else [tokens[:, bounds[-1] :]]
        return [_encoded(tokens, start, stop) for start, stop in pairwise(bounds)]


def cuts(length: int, most: int) -> list[int]:
    """Where to cut so many tokens: parts of `most`, the last one shorter, none of a single token.

    Args:
        length: At least 2.
        most: At least 3.
    """
    bounds = [*range(0, length, most), length]
    if bounds[-1] - bounds[-2] == 1:
        bounds[-2] -= 1
    return bounds


def _encoded(tokens: np.ndarray, start: int, stop: int) -> Encoded:
    ids, sizes, begins = tokens[:, start:stop]
    trained = np.ones(len(ids), dtype=bool)
    trained[0] = False
    return Encoded(
        ids.copy(),
        trained,
        prompt_tokens=0,
        truncated=False,
        numbers={BYTES: float(sizes[1:].sum())},
        open_start=not begins[0],
        open_end=stop < tokens.shape[1] and not tokens[2, stop],
    )


def _bytes(text: str, encoded: dict, count: int) -> np.ndarray:
    """(count,) bytes of UTF-8 of each token; those of a split character count for its first one.

    A tokenizer in Python does not say where its tokens stand: there all count alike.
    """
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    sizes = 1 + (points > 0x7F).astype(np.int64) + (points > 0x7FF) + (points > 0xFFFF)
    until = np.concatenate([[0], np.cumsum(sizes)])
    if "offset_mapping" in encoded:
        ends = until[[stop for _, stop in encoded["offset_mapping"]]] if count else until[:0]
        ends = np.maximum.accumulate(ends)
    else:
        ends = np.arange(1, count + 1) * until[-1] // count
    return np.diff(ends, prepend=0)
