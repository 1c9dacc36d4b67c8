"""The same faults on Hugging Face Trainer, TRL and Tunesmith: `python -m benchmarks.faults`.

Every system trains the same random Llama (95,000 parameters, fp32) on the same rows on one thread
of the processor: 16 steps, a checkpoint every 2, the newest 2 kept. After a fault it goes on with
its own documented resume, and nothing else: `trainer.train(resume_from_checkpoint=True)`, or
`tunesmith resume RUN` (as `tunesmith.resume`). Two runs of a system without a fault, and a resume
without one, end in equal bits; otherwise nothing is measured.

Faults, with their usual number of trials; trial k of a fault draws the same for every system:

    kill      100  SIGKILL inside a save, uniformly over its measured length; an older whole
                   checkpoint lies beside it. The saves of the last steps are not taken.
    flip      200  one bit of the newest checkpoint (step 12 of 16); each of its files once, then
                   files in proportion to their size
    truncate   20  one of its files cut short, chosen likewise
    nan        10  the loss of one step is NaN, once
    clock      10  the clock goes back by a day: before a save, or while the run is stopped
    disk       10  the disk (a tmpfs) is full during a save; room is made after 3 seconds

What is counted, of the trials of a fault:

    by itself       the run ended as finished with the documented command alone, given at most twice
    bitwise equal   it did, and weights and optimizer state have the SHA-256 of the undisturbed run
    detected        flip, truncate, nan, disk: an error, or a warning that a resume without a fault
                    does not give; waiting for room is one too. A message need not be right.
    silently wrong  it ended as finished without such a message, and with other bits; for nan: with
                    weights that are not finite; for clock also: the newest checkpoint was deleted,
                    or not the one gone on from

A flip that ended in equal bits without a message did no harm and counts as neither detected nor
silently wrong: not every byte of a checkpoint is read.

Results are written after each trial, and kept: a second call goes on, and `--systems tunesmith`
runs Tunesmith's trials again when its source has changed and leaves the others' as they are.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import machine
from benchmarks.fault_lab import SYSTEMS, Warm, made_with, make_material
from benchmarks.fault_table import count, insert, markdown, print_table
from tunesmith.runs.durable import write_durably

RESULTS = Path(__file__).parent / "results" / "faults.json"
PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
"""Has the table as well."""
PAGE_WIDTH = 120
NUMBERS = {"kill": 100, "flip": 200, "truncate": 20, "nan": 10, "clock": 10, "disk": 10}
"""Trials of each fault."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, print and write the table; 1 when Tunesmith was silently wrong."""
    asked = _parse(arguments)
    store = Store(asked.out)
    tell = Console(stderr=True)
    with tempfile.TemporaryDirectory(
        prefix="faults-", dir=asked.work, ignore_cleanup_errors=True
    ) as work:
        for system in asked.systems:
            _measure(system, _plan(asked), store, Path(work), tell)
    rows = count(store.result)
    console = Console()
    print_table(console if console.is_terminal else Console(width=PAGE_WIDTH), rows)
    asked.out.with_suffix(".md").write_text(markdown(store.result, rows), encoding="utf-8")
    if asked.out == RESULTS:
        PAGE.write_text(insert(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")
    return int(any(row.system == "tunesmith" and row.silent for row in rows))


class Store:
    """The results so far, in a file with one trial a line.

    Attributes:
        result: `machine`, `systems` with their versions, and the `trials`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.result: dict[str, Any] = {"machine": {}, "systems": {}, "trials": []}
        if path.is_file():
            self.result = json.loads(path.read_text(encoding="utf-8"))
        self.result["machine"] = machine.describe(threads=1)

    def begin(self, system: str, facts: dict[str, Any]) -> None:
        """Drop trials of another version of `system`."""
        before = self.result["systems"].get(system, {})
        if before.get("made_with") != facts["made_with"]:
            kept = [trial for trial in self.result["trials"] if trial["system"] != system]
            self.result["trials"] = kept
        self.result["systems"][system] = facts

    def missing(self, system: str, made: str, plan: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """The trials of the plan that `system`, as it is now, has not gone through."""
        if self.result["systems"].get(system, {}).get("made_with") != made:
            return plan
        mine = [trial for trial in self.result["trials"] if trial["system"] == system]
        there = {(trial["fault"], trial["index"]) for trial in mine}
        return [one for one in plan if one not in there]

    def add(self, trial: dict[str, Any]) -> None:
        """Keep one more, and write."""
        self.result["trials"].append(trial)
        self.write()

    def write(self) -> None:
        """The whole file, with trials in a fixed order."""
        order = {fault: rank for rank, fault in enumerate(NUMBERS)}
        trials = sorted(
            self.result["trials"], key=lambda t: (t["system"], order[t["fault"]], t["index"])
        )
        head = {name: self.result[name] for name in ("machine", "systems")}
        lines = ",\n".join(f"  {json.dumps(trial)}" for trial in trials)
        text = f'{json.dumps(head, indent=1)[:-2]},\n "trials": [\n{lines}\n ]\n}}\n'
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self.path, text.encode())


def _measure(
    system: str, plan: list[tuple[str, int]], store: Store, work: Path, tell: Console
) -> None:
    """Go through the trials of one system that are missing."""
    made = made_with(system)
    missing = store.missing(system, made, plan)
    if not missing:
        return
    place = work / system
    with Warm(SYSTEMS[system], make_material(work), place, tell.print) as warm:
        store.begin(system, {**warm.facts, "made_with": made})
        for number, (fault, index) in enumerate(missing, 1):
            found = warm.trial(fault, index)
            store.add({"system": system, "fault": fault, "index": index, **found})
            if number % 20 == 0 or number == len(missing):
                tell.print(f"{system}: {number} of {len(missing)} trials", highlight=False)


def _plan(asked: argparse.Namespace) -> list[tuple[str, int]]:
    numbers = {**NUMBERS, "kill": asked.kills, "flip": asked.flips}
    return [(fault, index) for fault in asked.faults for index in range(numbers[fault])]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    add("--faults", nargs="+", choices=NUMBERS, default=list(NUMBERS))
    add("--kills", type=int, default=NUMBERS["kill"], help="trials of kill")
    add("--flips", type=int, default=NUMBERS["flip"], help="trials of flip")
    add("--work", type=Path, help="folder for the runs, on the disk that is meant")
    add("--out", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
