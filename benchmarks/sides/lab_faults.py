"""The faults, the same for every system: `TRIALS` maps each name to what strikes and what is seen.

A trial is drawn from its fault and number alone, so that all systems meet the same one. What each
of its figures means is defined in `benchmarks/faults.py`.
"""

import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from lab import NUM_STEPS, SAVE_EVERY, STOPPED_AT, Child, System, Watch, fork, warm

ATTEMPTS = 2
"""Times that the command to go on is given; it never did better at a third."""
TRIES = 25
"""Runs until a kill falls inside a save: a busy machine wakes the killer late."""
DAY = 86400.0
DISK_BYTES = 96 << 20
FULL_SECONDS = 3.0
"""How long a disk stays full under a process that waits."""


class Lab:
    """A system with what its faulty runs are compared with.

    Attributes:
        system: The program.
        work: A folder for all runs.
        facts: `weights`, `optimizer` of the uninterrupted run; `span_seconds` of a save; `said` by
            a resume without a fault; `versions`, `files` of a checkpoint.
    """

    def __init__(self, system: System, work: Path) -> None:
        self.system, self.work = system, work
        warm(system, work)
        first, spans = self._whole("first")
        second, more = self._whole("second")
        if any(first[key] != second[key] for key in ("weights", "optimizer")):
            raise RuntimeError("two runs without a fault differ: nothing can be compared")
        self.stopped = work / "stopped"
        self._stop(self.stopped)
        newest = system.checkpoints(self.stopped)[STOPPED_AT]
        self.facts: dict[str, Any] = {
            "weights": first["weights"],
            "optimizer": first["optimizer"],
            "span_seconds": median([*spans, *more]),
            "files": {str(p.relative_to(newest)): p.stat().st_size for p in _files(newest)},
            "versions": system.versions(),
            "said": [],
        }
        with self.place() as place:
            clean = self.go_on(self.copy(place))
        if not clean["equal"]:
            raise RuntimeError(f"a resume without a fault differs: {clean}")
        self.facts["said"] = clean["said"]

    @contextmanager
    def place(self) -> Any:
        """A folder for one trial, gone after it."""
        folder = self.work / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def copy(self, place: Path) -> Path:
        """The run that was killed right after the save of step STOPPED_AT, to be hurt."""
        return Path(shutil.copytree(self.stopped, place / "run", symlinks=True))

    def train(self, run: Path, out: Path, **watch: Any) -> Child:
        """Begin a run in a child."""
        return fork(lambda tell: self.system.train(run, Watch(tell, **watch)), out)

    def go_on(self, run: Path, begun: dict[str, Any] | None = None) -> dict[str, Any]:
        """Give the documented command until the run has ended.

        Args:
            run: Its folder.
            begun: What came out of the process that was not killed; None where there is none.

        Returns:
            The outcome with `equal`, `said` without what a resume always says, and `errors`.
        """
        outcome, errors = begun, []
        while (outcome is None or not outcome["ended"]) and len(errors) < ATTEMPTS:
            out = run.parent / "outcome.json"
            outcome = fork(lambda tell: self.system.resume(run, Watch(tell)), out).end()
            if not outcome["ended"]:
                errors.append(outcome["error"])
        known = {_plain(text) for text in self.facts["said"]}
        told = [text for text in outcome.get("said", []) if _plain(text) not in known]
        equal = outcome["ended"] and all(
            outcome[key] == self.facts[key] for key in ("weights", "optimizer")
        )
        return {**outcome, "equal": equal, "said": told, "errors": errors}

    def _whole(self, name: str) -> tuple[dict[str, Any], list[float]]:
        """An uninterrupted run, and the seconds of each of its saves."""
        child = self.train(self.work / name, self.work / f"{name}.json")
        outcome = child.end()
        if not outcome["ended"]:
            raise RuntimeError(f"the uninterrupted run failed: {outcome['error']}")
        at = {(word, step): float(moment) for word, step, moment in child.told}
        steps = {step for _, step in at}
        return outcome, [at["end", step] - at["begin", step] for step in steps]

    def _stop(self, run: Path) -> None:
        self.train(run, self.work / "stopped.json", die_after=STOPPED_AT).end()


def kill(lab: Lab, draw: random.Random, index: int, place: Path) -> dict[str, Any]:
    """SIGKILL inside a save that has an older checkpoint beside it; then go on."""
    step = draw.randrange(2 * SAVE_EVERY, NUM_STEPS - SAVE_EVERY, SAVE_EVERY)
    share, span = draw.random(), lab.facts["span_seconds"]
    for attempt in range(TRIES):
        run = place / f"run-{attempt}"
        child = lab.train(run, place / "outcome.json")
        begin = float(child.wait_for("begin", step)[2])
        time.sleep(max(begin + share * span - time.monotonic(), 0.0))
        child.kill()
        end = next((line for line in child.told if line[:2] == ["end", str(step)]), None)
        if end is None:
            found = lab.go_on(run)
            return _result(found, None, step=step, share=share, tries=attempt + 1)
        # The save was over: it took less than was measured, or the killer was late.
        span = min(span, float(end[2]) - begin)
    return {"refused": f"no kill fell inside a save in {TRIES} runs"}


def flip(lab: Lab, draw: random.Random, index: int, place: Path) -> dict[str, Any]:
    """One bit of the newest checkpoint; each file once, then in proportion to size."""
    run = lab.copy(place)
    path, name = _choose(lab, draw, index, run)
    data = bytearray(path.read_bytes())
    bit = draw.randrange(8 * len(data))
    data[bit // 8] ^= 1 << (bit % 8)
    _put(path, bytes(data))
    return _result(lab.go_on(run), True, file=name, bit=bit)


def truncate(lab: Lab, draw: random.Random, index: int, place: Path) -> dict[str, Any]:
    """One file of the newest checkpoint cut short."""
    run = lab.copy(place)
    path, name = _choose(lab, draw, index, run)
    data = path.read_bytes()
    kept = draw.randrange(len(data))
    _put(path, data[:kept])
    return _result(lab.go_on(run), True, file=name, bytes=kept)


def nan(lab: Lab, draw: random.Random, index: int, place: Path) -> dict[str, Any]:
    """The loss of one step is NaN, once. Other bits at the end are no fault: a step is gone."""
    step = 2 + index % (NUM_STEPS - 4)
    begun = lab.train(place / "run", place / "outcome.json", poison=step).end()
    known = {_plain(text) for text in lab.facts["said"]}
    said = [text for text in begun["said"] if _plain(text) not in known]
    return {
        "resumable": begun["ended"],
        "equal": None,
        "detected": bool(said) or not begun["ended"],
        "silent": begun["ended"] and not begun["finite"] and not said,
        "finite": begun.get("finite"),
        "errors": [] if begun["ended"] else [begun["error"]],
        "said": said[:3],
        "step": step,
    }


def clock(lab: Lab, draw: random.Random, index: int, place: Path) -> dict[str, Any]:
    """The clock goes back by a day: before a save (even numbers), or while the run is stopped."""
    if index % 2:
        run, newest = lab.copy(place), STOPPED_AT
        _set_times(lab.system.checkpoints(run)[newest], time.time() - DAY)
    else:
        newest = draw.randrange(3 * SAVE_EVERY, NUM_STEPS, SAVE_EVERY)
        run = place / "run"

        def back(step: int) -> None:
            if step == newest:
                for folder in lab.system.checkpoints(run).values():
                    _set_times(folder, folder.stat().st_mtime + DAY)

        lab.train(run, place / "outcome.json", at_save=back, die_after=newest).end()
    there = newest in lab.system.checkpoints(run)
    found = lab.go_on(run)
    lost = not there or found.get("resumed") not in (None, newest)
    result = _result(found, None, newest=newest, newest_kept=there, resumed=found.get("resumed"))
    return {**result, "silent": result["silent"] or (lost and not found["said"])}


def disk(lab: Lab, draw: random.Random, index: int, place: Path) -> dict[str, Any]:
    """A full disk during a save; room is made after some seconds, then the run goes on.

    A tmpfs of its own is filled when the save begins, but for a part of what the checkpoint needs.
    """
    mount = place / "disk"
    mount.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(mount)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        return {"refused": "a tmpfs cannot be mounted here; try unshare --map-root-user --mount"}
    try:
        return _fill(lab, draw, place, mount)
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=False)


def _fill(lab: Lab, draw: random.Random, place: Path, mount: Path) -> dict[str, Any]:
    step = draw.randrange(2 * SAVE_EVERY, NUM_STEPS, SAVE_EVERY)
    room = int(draw.random() * 0.95 * sum(lab.facts["files"].values()))
    ballast = mount / "ballast"

    def fill(now: int) -> None:
        if now == step:
            free = os.statvfs(mount)
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - room)

    child = lab.train(mount / "run", place / "outcome.json", at_save=fill)
    child.wait_for("begin", step)
    limit = time.monotonic() + FULL_SECONDS
    while child.alive() and time.monotonic() < limit:
        child.listen(0.05)
    waited = child.alive()
    ballast.unlink()
    begun = child.end()
    found = lab.go_on(mount / "run", begun)
    told = waited or not begun["ended"] or bool(found["said"])
    result = _result(found, None, step=step, room_bytes=room, waited=waited)
    return {**result, "detected": told, "at_full_disk": begun["error"]}


Trial = Callable[[Lab, random.Random, int, Path], dict[str, Any]]

TRIALS: dict[str, Trial] = {
    "kill": kill,
    "flip": flip,
    "truncate": truncate,
    "nan": nan,
    "clock": clock,
    "disk": disk,
}


def answers(system: System, work: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What answers the harness: `{"fault": "none"}` with the facts, others with a trial.

    The same fault and index draw the same for every system.
    """
    lab = Lab(system, work)

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        fault, index = question["fault"], question.get("index", 0)
        if fault == "none":
            return lab.facts
        begin = time.monotonic()
        with lab.place() as place:
            found = TRIALS[fault](lab, random.Random(f"{fault}-{index}"), index, place)
        return {**found, "seconds": round(time.monotonic() - begin, 2)}

    return answer


def _result(found: dict[str, Any], detects: bool | None, **more: Any) -> dict[str, Any]:
    """What the table counts; `detects` is None for a fault that a message is not owed for."""
    told = bool(found["said"]) or bool(found["errors"])
    return {
        "resumable": found["ended"],
        "equal": found["equal"],
        "detected": None if detects is None else told,
        "silent": found["ended"] and not found["equal"] and not told,
        "errors": found["errors"][-1:],
        "said": found["said"][:3],
        **more,
    }


def _choose(lab: Lab, draw: random.Random, index: int, run: Path) -> tuple[Path, str]:
    """A file of the newest checkpoint that is not empty: each once, then by size."""
    sizes = {name: size for name, size in sorted(lab.facts["files"].items()) if size}
    names = list(sizes)
    name = draw.choices(names, list(sizes.values()))[0]
    name = names[index] if index < len(names) else name
    return lab.system.checkpoints(run)[STOPPED_AT] / name, name


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _put(path: Path, data: bytes) -> None:
    """Other bytes under the same times: a disk that forgets does not touch them either."""
    times = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _set_times(folder: Path, moment: float) -> None:
    for path in [*_files(folder), folder]:
        os.utime(path, (moment, moment))


def _plain(text: str) -> str:
    """A message without paths and figures, which differ from run to run."""
    return re.sub(r"\d+(\.\d+)?", "#", re.sub(r"/\S+", "PATH", text))
