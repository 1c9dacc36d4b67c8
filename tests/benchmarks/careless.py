"""A system that does everything wrong, for `test_faults.py`: it believes any bytes and any clock.

Usage: careless.py FOLDER ; answers the questions of the harness, as the real sides do.
"""

import hashlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "sides"))

from lab import KEEP, NUM_STEPS, SAVE_EVERY, Watch, serve
from lab_faults import answers

SIZE = 4096


class Careless:
    """Its state is a few bytes; a step hashes them anew."""

    def train(self, run: Path, watch: Watch) -> dict:
        run.mkdir()
        return self._go_on(run, watch, 0, bytes(SIZE))

    def resume(self, run: Path, watch: Watch) -> dict:
        newest = max(self.checkpoints(run))
        state = (self.checkpoints(run)[newest] / "state").read_bytes()
        return self._go_on(run, watch, newest, state)

    def checkpoints(self, run: Path) -> dict[int, Path]:
        return {int(path.name): path for path in run.iterdir()}

    def versions(self) -> dict[str, str]:
        return {"careless": "1"}

    def _go_on(self, run: Path, watch: Watch, first: int, state: bytes) -> dict:
        finite = True
        for step in range(first + 1, NUM_STEPS + 1):
            state = b"".join(
                hashlib.sha256(state[i : i + 32] + bytes([step])).digest()
                for i in range(0, max(len(state), 1), 32)
            )
            finite = finite and not watch.poisons(step)
            if step % SAVE_EVERY == 0:
                watch.save_begins(step)
                self._save(run / str(step), state)
                watch.save_ended(step)
        digest = hashlib.sha256(state).hexdigest()
        ending = {"weights": digest, "optimizer": digest, "finite": finite}
        return {**ending, "said": ["as always, 3 things"], "resumed": first or None}

    def _save(self, folder: Path, state: bytes) -> None:
        folder.mkdir()
        with (folder / "state").open("wb") as file:
            for i in range(0, len(state), 256):
                file.write(state[i : i + 256])
                file.flush()
                time.sleep(0.0005)
        by_clock = sorted(folder.parent.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in by_clock[:-KEEP]:
            (old / "state").unlink()
            old.rmdir()


if __name__ == "__main__":
    serve(answers(Careless(), Path(sys.argv[1])))
