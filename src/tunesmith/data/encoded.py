"""A row as tokens, before it is laid on the disk: one sequence, or several that belong together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tunesmith.data.row import RowProblem

UNWEIGHED = RowProblem(
    "a message with a weight other than 0 and 1",
    "0 or 1",
    "such weights are for methods that count the loss of each token, such as sft",
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Tokens of one example.

    Attributes:
        input_ids: (T,) int32.
        trained: (T,) bool; never True at the first token of a sequence, and True somewhere.
        prompt_tokens: Tokens before the last answer of the first sequence, generation prompt
            included; 0 for a text.
        truncated: Whether tokens beyond the limit were cut off.
        parts: Tokens of each sequence, where there are several end to end: a chosen and a rejected
            answer, say. Empty for one sequence.
        numbers: What the row says in numbers, such as a margin or a class. Every row of a data set
            has the same ones.
        weights: (T,) float32, how much the loss of each token counts, 0 where it is not trained;
            empty where every trained one counts 1.
        open_start: Whether it begins inside a document whose beginning is an earlier example.
        open_end: Whether the document that it ends in goes on in a later example.
    """

    input_ids: np.ndarray
    trained: np.ndarray
    prompt_tokens: int
    truncated: bool
    parts: tuple[int, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    weights: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    open_start: bool = False
    open_end: bool = False


def together(sequences: Sequence[Encoded], numbers: Mapping[str, float] | None = None) -> Encoded:
    """Sequences that come in one step and in one forward pass, as one example.

    Args:
        sequences: At least one, each of one sequence.
        numbers: Of the row they come from.

    Raises:
        RowProblem: One has weights other than 0 and 1, which mean nothing for whole sequences.
    """
    if any(len(one.weights) for one in sequences):
        raise UNWEIGHED
    return Encoded(
        np.concatenate([one.input_ids for one in sequences]),
        np.concatenate([one.trained for one in sequences]),
        sequences[0].prompt_tokens,
        any(one.truncated for one in sequences),
        tuple(len(one.input_ids) for one in sequences),
        numbers or {},
    )
