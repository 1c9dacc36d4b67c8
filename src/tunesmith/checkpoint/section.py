"""The recipe's `checkpoint` section."""

from typing import Literal

from pydantic import Field

from tunesmith.config.section import Section


class CheckpointSection(Section):
    """When a run is saved and what is kept. Evaluations and the end always save."""

    every: int = Field(100, ge=1)
    """Steps between checkpoints."""
    keep: int = Field(2, ge=1)
    """Newest checkpoints kept; the best one is kept besides."""
    on_full_disk: Literal["pause", "fail"] = "pause"
    """pause: say how much room is needed and where, wait for it however long that takes, then go
    on; Ctrl-C ends the wait. fail: end the run (exit code 4); it can be resumed."""
