"""Rows that are read as a whole: no token is trained, a head reads what stands at the end.

The ids of a text are those that `tokenizer(text)` gives to anyone who loads the model; turns are
rendered as training and inference render them. transformers takes a sequence to end at the last
token that is not padding, and in many bases the token that ends a turn is the padding too. So what
follows that token is left off here: nothing before it can see it.
"""

import hashlib
import json
from dataclasses import dataclass
from math import inf

import numpy as np

from tunesmith.data.encoded import Encoded
from tunesmith.data.row import Conversation, RowProblem, Text
from tunesmith.data.template import Renderer


@dataclass(frozen=True)
class Whole:
    """Turns texts and turns into tokens, none of them trained.

    Attributes:
        renderer: Of the base.
        pad_id: What transformers takes for padding; no sequence ends with it.
    """

    renderer: Renderer
    pad_id: int

    def __call__(self, content: Conversation | Text) -> Encoded:
        """The tokens of a row.

        Turns that end with an answer are taken as they are trained on; others with the opening of
        an answer behind them.

        Raises:
            RowProblem: There is nothing but padding, or turns that cannot be rendered.
        """
        if isinstance(content, Text):
            ids = self._text(content.text)
        elif content.messages[-1].role == "assistant":
            return self.read(self.renderer.encode(content))
        else:
            ids = self.renderer.prompt(content)
        limit = self.renderer.max_tokens if self.renderer.overlong == "truncate" else inf
        cut = len(ids) > limit
        kept = np.asarray(ids[: int(limit)] if cut else ids, dtype=np.int32)
        return self.read(Encoded(kept, np.zeros(len(kept), dtype=bool), 0, cut))

    def fingerprint(self, *facts: object) -> str:
        """A hash of all that decides the tokens, and of what a method adds to that."""
        parts = [self.renderer.fingerprint, self.pad_id, *facts]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def read(self, encoded: Encoded) -> Encoded:
        """The same sequence up to its last token that is not padding, trained nowhere.

        Raises:
            RowProblem: There is none.
        """
        kept = np.flatnonzero(encoded.input_ids != self.pad_id)
        if not len(kept):
            raise RowProblem("a text without a token", "something to read")
        ids = encoded.input_ids[: kept[-1] + 1]
        return Encoded(ids, np.zeros(len(ids), dtype=bool), 0, encoded.truncated)

    def _text(self, text: str) -> list[int]:
        found = self.renderer.tokenizer(text, return_attention_mask=False, verbose=False)
        return found["input_ids"]
