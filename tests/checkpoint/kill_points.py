"""Run by `test_crash.py`, as a module: strike a commit, a deletion, a replacement.

Usage: python -m tests.checkpoint.kill_points FOLDER STRACE FAULTS POINTS
FAULTS is JSON, system call to fault; POINTS too, a list, empty for every point there is.
Prints JSON: [[[scenario, system call, number], exit code or -signal], ...]
"""

import json
import sys
from pathlib import Path

from tests.checkpoint.strikes import Scenario, every_point, these_points, traced
from tunesmith.checkpoint.commit import commit
from tunesmith.checkpoint.retain import retain
from tunesmith.checkpoint.verify import latest

NO_PROCESS = 2**22 + 1
"""An id that Linux gives to no process."""


def write(folder: Path, content: str) -> None:
    """Two files, one of them in a folder."""
    (folder / "state.json").write_text(content)
    (folder / "adapter").mkdir()
    (folder / "adapter" / "weights").write_text(content * 100)


def save(root: Path, step: int, content: str) -> None:
    """One checkpoint."""
    commit(root, step, lambda folder: write(folder, content), {"content": content})


def leave_behind(root: Path) -> None:
    """What a process leaves that is killed while replacing step-20, after one killed at step-30."""
    save(root, 10, "old")
    save(root, 20, "old")
    (root / "step-20").rename(root / f".old-step-20-{NO_PROCESS}")
    (root / f".tmp-step-30-{NO_PROCESS}").mkdir()
    write(root / f".tmp-step-30-{NO_PROCESS}", "half")


SCENARIOS = {
    "save": Scenario(lambda root: save(root, 10, "old"), lambda root: save(root, 20, "new")),
    "replace": Scenario(lambda root: save(root, 20, "old"), lambda root: save(root, 20, "new")),
    "retain": Scenario(
        lambda root: [save(root, step, "old") for step in (10, 20, 30)],
        lambda root: retain(root, keep=1, protect={10}),
    ),
    "recover": Scenario(
        lambda root: leave_behind(root),
        lambda root: (latest(root), save(root, 30, "new")),
    ),
}


def main(base: Path, strace: str, faults: dict[str, str], points: list) -> None:
    """Strike at every point, or at those given."""
    with traced(strace, faults):
        if points:
            told = list(these_points(base, SCENARIOS, [tuple(point) for point in points]))
        else:
            told = list(every_point(base, SCENARIOS, list(faults)))
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(json.loads, sys.argv[3:]))
