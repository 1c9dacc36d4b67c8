"""Is there room on the disk for what a run will write? Asked before step 1."""

from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import MachineError
from tunesmith.runs.patience import free_bytes

RESERVE_BYTES = 64 * 2**20
"""For events, evaluations, reports and the tokenizer, whose sizes are not known beforehand."""


@dataclass(frozen=True, slots=True)
class Room:
    """What a run will write, and what is free where it writes.

    Attributes:
        place: The run folder, or where it will be.
        checkpoint_bytes: One checkpoint.
        checkpoints: How many of them are on the disk at once at most, the one being written too.
        there_bytes: What lies in the run's `checkpoints` already.
        artefact_bytes: The exported weights.
        free_bytes: Free now.
    """

    place: Path
    checkpoint_bytes: int
    checkpoints: int
    there_bytes: int
    artefact_bytes: int
    free_bytes: int

    @property
    def needed_bytes(self) -> int:
        """What must be free now, so that nothing has to wait for room later."""
        missing = max(self.checkpoints * self.checkpoint_bytes - self.there_bytes, 0)
        # Whatever lies there, a new one is written before an old one goes.
        return max(missing, self.checkpoint_bytes) + self.artefact_bytes + RESERVE_BYTES

    @property
    def fits(self) -> bool:
        """Whether there is enough."""
        return self.free_bytes >= self.needed_bytes

    def shortage(self) -> MachineError:
        """The error of a disk that is too small, with the figures."""
        return MachineError(
            str(self.place),
            got=f"{self.free_bytes:,} bytes free on its disk",
            expected=f"{self.needed_bytes:,}: {self.checkpoints} checkpoints of "
            f"{self.checkpoint_bytes:,} (a new one is written before an old one goes; "
            f"{self.there_bytes:,} are there), the export of {self.artefact_bytes:,} and a reserve",
            hint="make room, lower checkpoint.keep, or put output.dir on another disk",
        )


def measure(place: Path, checkpoint_bytes: int, checkpoints: int, artefact_bytes: int) -> Room:
    """The room for a run in the folder `place`, which need not be there yet.

    Args:
        place: The run folder.
        checkpoint_bytes: One checkpoint.
        checkpoints: Most on the disk at once.
        artefact_bytes: The exported weights.
    """
    found = place / "checkpoints"
    there = sum(path.stat().st_size for path in found.rglob("*") if path.is_file())
    return Room(place, checkpoint_bytes, checkpoints, there, artefact_bytes, free_bytes(place))
