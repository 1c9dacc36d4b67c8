"""The recipe's `evaluate` section."""

from pydantic import Field

from tunesmith.config.section import Section
from tunesmith.evaluate.task import TaskSpec


class EvaluateSection(Section):
    """What is measured before, during and after training, and what may not be lost."""

    every: int | None = Field(None, ge=1)
    """Steps between evaluations during training; null measures before and after only."""
    tasks: list[TaskSpec] = []
    """The user's own measures; the first one chooses the best checkpoint."""
    probes: list[str] = ["general"]
    """Measures of what the base could already do; an empty list measures none."""
    forgetting_budget: float | None = Field(None, gt=0)
    """Largest KL from the base, in nats per token on its own answers, that an export may have."""
    batch_rows: int = Field(64, ge=1)
    """Rows generated side by side."""
    samples: int = Field(5, ge=0)
    """Rows shown before and after in the report."""
