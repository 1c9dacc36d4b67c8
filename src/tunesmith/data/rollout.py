"""Answers that a model drew to a prompt, with what is known of them, and what is learned from that.

Legend: G answers to one prompt, N tokens of these answers end to end, P tokens of the prompt.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Figure = tuple[float, float]
"""A sum, and what to divide it by."""


@dataclass(frozen=True, slots=True)
class Group:
    """One prompt and the answers that were drawn to it.

    Attributes:
        example: Index of the row's example.
        source: Path of the row's file.
        row: Number of the row in that file.
        prompt: (P,) int32.
        answers: (T,) int32 of each of the G answers, the stop token that ended it included; every
            answer has a token at least.
        stopped: (G,) bool, whether a stop token ended it, rather than its length.
        rewards: (G,) float32, what the graders gave it, added up by their weights.
        scores: (G,) float32 of each grader, by its name.
        ungraded: Answers on which a grader failed; they got nothing from it.
        by_token: (N,) float32 by name: `sampler`, the log-probability with which a token was drawn;
            where they were asked for, `old`, the same as training computes it, `reference`, that of
            the model before step 1, and `values`, what a value head expected; of a teacher
            `teacher_ids` and `teacher_log_probs`, (N, K), its likeliest tokens in each place.
        asked: The prompt as text, for people; empty where it was read back.
        texts: The answers as text; likewise.
    """

    example: int
    source: str
    row: int
    prompt: NDArray[np.int32]
    answers: tuple[NDArray[np.int32], ...]
    stopped: NDArray[np.bool_]
    rewards: NDArray[np.float32]
    scores: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    ungraded: int = 0
    by_token: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    asked: str = ""
    texts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(G,) tokens of each answer."""
        return np.array([len(answer) for answer in self.answers], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a method makes of one group.

    Attributes:
        trained: (G,) bool, which answers are trained on; a group without any is left out.
        by_answer: (G,) float32 by name, for the loss: the advantage of each answer, say.
        by_token: (N,) float32 by name, of the tokens of all G answers.
        figures: What the step tells of the group, besides what it tells of any.
    """

    trained: NDArray[np.bool_]
    by_answer: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    by_token: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
