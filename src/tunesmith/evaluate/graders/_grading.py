"""A grader at work: outputs with their rows in, numbers out.

Tasks grade with it, and so may whatever else needs scores: rewards, the filter of what was drawn.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.evaluate.graders.base import Answered, Grader, Scored
from tunesmith.evaluate.means import NO_MEANS, Means


@dataclass(frozen=True, slots=True)
class Grades:
    """Scores of some outputs, in their order.

    Attributes:
        scores: (n,) float64, finite; 0 where the output could not be graded.
        failures: By the place of an output, from 0: why it could not be graded, or not in full.
        said: (n,) what stands for the output of a grader that reads none; else empty texts.
    """

    scores: NDArray[np.float64]
    failures: dict[int, str]
    said: list[str]


@dataclass(frozen=True, slots=True)
class Grading:
    """A grader with the means that it may use.

    Attributes:
        grader: What scores.
        means: Models that it may ask.
        within: Bounds that a score must keep to; None takes those of the grader.
    """

    grader: Grader
    means: Means = NO_MEANS
    within: tuple[float, float] | None = None

    def grade_all(
        self,
        outputs: Sequence[str],
        references: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
        prompts: Sequence[Sequence[int]] | None = None,
    ) -> Grades:
        """Score outputs, together where the grader can.

        Args:
            outputs: What the model wrote, without stop tokens.
            references: The answer of each row; empty where it has none.
            rows: Each as it stands in its file; the same one may stand here many times.
            prompts: Token ids that were answered, which a grader such as `choice` needs.

        Returns:
            For each output a score. What raises, or gives no number within the bounds, scores 0
            and is among the failures.

        Raises:
            TunesmithError: The grader as a whole cannot do its work.
            ValueError: The arguments are not of one length.
        """
        known = [()] * len(outputs) if prompts is None else prompts
        parts = zip(outputs, references, rows, known, strict=True)
        answers = [Answered(*part) for part in parts]
        checked = self.score_all(answers)
        failures = {i: each.failure for i, each in enumerate(checked) if each.failure}
        scores = np.array([each.score for each in checked], dtype=np.float64)
        return Grades(scores, failures, [each.said for each in checked])

    def score_all(self, answers: Sequence[Answered]) -> list[Scored]:
        """The same, one by one: each finite and within the bounds, or 0 with the reason."""
        scored = self.grader.score_all(answers, self.means) if answers else []
        return [self._checked(each) for each in scored]

    def _checked(self, scored: Scored) -> Scored:
        """The score, if it is one: NaN would spoil the mean over all rows."""
        low, high = self.within or self.grader.bounds or (-math.inf, math.inf)
        if low <= scored.score <= high and math.isfinite(scored.score):
            return scored
        expected = f"{low:g} to {high:g}" if math.isfinite(high - low) else "a finite number"
        why = f"a score of {scored.score}; expected {expected}"
        return replace(scored, score=0.0, failure=scored.failure or why)
