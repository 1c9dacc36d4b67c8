"""What a grader is once its keys are read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith.config.section import Section

Grade = Callable[[Any, str, str, Mapping[str, Any]], float]
"""`grade(config, output, reference, row)` of a grader file."""


@dataclass(frozen=True, slots=True)
class Grader:
    """A grader file together with its keys.

    Attributes:
        config: The grader's JSON, read; has `type` and `name`.
        grade: The file's own function.
    """

    config: Section
    grade: Grade

    @property
    def name(self) -> str:
        """What the recipe calls it; the name of the file when it has no name of its own."""
        values = self.config.model_dump(include={"name", "type"})
        return values["name"] or values["type"]

    def __call__(self, output: str, reference: str, row: Mapping[str, Any]) -> float:
        """Score one output.

        Args:
            output: What the model wrote, without its stop token.
            reference: The row's own answer; empty when it has none.
            row: The row as it stands in the file.

        Returns:
            From 0, wrong, to 1, right.

        Raises:
            RecipeError: The row has no such key as the grader names.
            ValueError: The row cannot be graded.
        """
        return self.grade(self.config, output, reference, row)


def need_reference(reference: str) -> None:
    """Raise a ValueError when there is nothing to compare with, rather than score it."""
    if not reference.strip():
        raise ValueError("the row has no answer to compare with")
