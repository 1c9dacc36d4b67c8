"""The recipe's `checkpoint` section."""

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from tunesmith.config.section import Section


class CheckpointSection(Section):
    """When a run is saved and what is kept. Evaluations and the end always save."""

    every: int = Field(100, ge=1)
    """Steps between checkpoints."""
    keep: int = Field(2, ge=1)
    """Newest checkpoints kept; the best one is kept besides."""
    average: dict[Literal["last", "best"], PositiveInt] | None = None
    """`{last: 3}` or `{best: 3}`: the mean of the weights of so many checkpoints is measured at the
    end and exported if it is better than each alone (arXiv:2203.05482). They are kept for it."""
    on_full_disk: Literal["pause", "fail"] = "pause"
    """pause: say how much room is needed and where, wait for it however long that takes, then go
    on; Ctrl-C ends the wait. fail: end the run (exit code 4); it can be resumed."""

    @property
    def num_averaged(self) -> int:
        """Checkpoints that are averaged at the end; 0 for none."""
        return sum((self.average or {}).values())

    @model_validator(mode="after")
    def _one_average(self) -> Self:
        if self.average is not None and (len(self.average) != 1 or self.num_averaged < 2):
            raise ValueError("last or best, not both, of at least 2 checkpoints")
        return self
