"""The recipe's `checkpoint` section."""

from pydantic import Field

from tunesmith.config.section import Section


class CheckpointSection(Section):
    """When a run is saved and what is kept. Evaluations and the end always save."""

    every: int = Field(100, ge=1)
    """Steps between checkpoints."""
    keep: int = Field(2, ge=1)
    """Newest checkpoints kept; the best one is kept besides."""
