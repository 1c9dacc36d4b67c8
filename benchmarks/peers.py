"""Tunesmith beside other fine-tuning programs: `python -m benchmarks.peers`.

Every side trains the same base on the same rows in the same order, in a process and an environment
of its own. Sides take turns within each repeat, so that a slow hour of the machine meets them all.
Only optimizer steps are timed, the first one not: no import, loading, tokenising or saving. The
result is written after each run, as JSON and as Markdown; `--resume` goes on with it.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import machine
from benchmarks.cases import CASES, Case, default_cases
from benchmarks.compare import compare, speed
from benchmarks.environments import python_of
from benchmarks.flops import read_shapes
from benchmarks.launch import Machine, start
from benchmarks.roster import SIDES, Side
from benchmarks.show import markdown, page, print_case
from tunesmith.config.home import home
from tunesmith.runs.durable import write_durably

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "peers.json"
PAGE_WIDTH = 120
"""Columns of the table when it goes to a file."""
TICKETS = ROOT / "examples" / "tickets" / "train.jsonl"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 when a side failed or disagreed with Tunesmith."""
    asked = _parse(arguments)
    session = Session(asked, Console(stderr=True))
    for repeat in range(asked.repeats):
        for case in session.cases:
            session.limit(case, repeat)
            for side in session.sides:
                session.run(case, side, repeat)
    console = Console()
    return session.show(console if console.is_terminal else Console(width=PAGE_WIDTH))


class Session:
    """One measurement: what was asked for, and what has come out so far."""

    def __init__(self, asked: argparse.Namespace, console: Console) -> None:
        self.asked, self.console = asked, console
        self.cases = [CASES[name] for name in asked.cases or default_cases(bool(asked.base))]
        self.sides = [SIDES[name] for name in asked.sides or SIDES]
        self.how = Machine(asked.threads, asked.timeout, asked.lock)
        self.pythons = {side.name: python_of(side.environment, self.tell) for side in self.sides}
        self.result = self._before() if asked.resume else self._empty()
        self.revision = _revision()

    def tell(self, text: str) -> None:
        """A line about what is going on, on standard error."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def run(self, case: Case, side: Side, repeat: int) -> None:
        """Run one side once, and write what came out; skip what is there already."""
        job = case.job(self.base(case), self.rows(case), self.asked.steps)
        revision = self.revision if side.environment is None else ""
        key = {"side": side.name, "repeat": repeat, "job": job, "revision": revision}
        if any(all(run[name] == value for name, value in key.items()) for run in self.runs):
            return
        found = start(side, self.pythons[side.name], job, self.how)
        place = {"case": case.name, "side": side.name, "repeat": repeat}
        self.runs[:] = [run for run in self.runs if place != {name: run[name] for name in place}]
        self.runs.append({"case": case.name, **key, **found})
        self._write()
        says = found.get("refused") or found.get("failed")
        says = says or f"{speed(found):.0f} tokens/s, {found['peak_gib']:.1f} GiB"
        seconds = found["wall_seconds"]
        self.tell(f"{case.name} {repeat + 1} {side.name}: {says} ({seconds:.0f} s in all)")

    def limit(self, case: Case, repeat: int) -> None:
        """Measure the arithmetic limit for the base of a case, once a repeat."""
        limits = self.result["limits"].setdefault(str(self.base(case)), {})
        if str(repeat) not in limits:
            shapes = read_shapes(self.base(case))
            limits[str(repeat)] = machine.measure_limit(shapes, self.how)
            self._write()

    def base(self, case: Case) -> Path:
        """Folder of the base of a case; the starter is made first if need be."""
        if case.other_base:
            return self.asked.base
        if "starter" not in self.__dict__:
            code = "from tunesmith.models.starter import ensure; print(ensure())"
            self.starter = Path(_output([sys.executable, "-c", code]).splitlines()[-1])
        return self.starter

    def rows(self, case: Case) -> Path:
        """The file of rows of a case, kept by all that decides it."""
        count = case.num_steps(self.asked.steps) * case.rows_per_step
        source, base = self.asked.data, self.base(case)
        decides = [case.shape, count, str(base), hashlib.sha256(source.read_bytes()).hexdigest()]
        key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
        path = home() / "benchmarks" / "rows" / f"{case.shape}-{key}.jsonl"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}")
            job = {"source": str(source), "base": str(base), "shape": case.shape}
            job |= {"count": count, "path": str(part)}
            _output([sys.executable, "-m", "benchmarks.rows", json.dumps(job)])
            part.rename(path)
        return path

    def show(self, console: Console) -> int:
        """Print every case and write the page."""
        sections, wrong = [], False
        for case in self.cases:
            runs = [run for run in self.runs if run["case"] == case.name]
            rows = compare(runs, [side.name for side in self.sides])
            lines = self.rows(case).read_text(encoding="utf-8").splitlines()
            facts = machine.facts(
                case,
                read_shapes(self.base(case)),
                [json.loads(line) for line in lines],
                list(self.result["limits"][str(self.base(case))].values()),
                self.asked.repeats,
            )
            print_case(console, case.title, rows, facts)
            sections.append(markdown(case.title, rows, facts))
            self.result["cases"][case.name] = facts
            wrong = wrong or any(row.wrong for row in rows)
        self._write()
        path = self.asked.out.with_suffix(".md")
        path.write_text(page(self.result, sections), encoding="utf-8")
        self.tell(f"written: {self.asked.out} and {path}")
        return int(wrong)

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Every run so far."""
        return self.result["runs"]

    def _empty(self) -> dict[str, Any]:
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine.describe(self.asked.threads),
            "data": self.asked.data.name,
            "sides": [side.name for side in self.sides],
            "limits": {},
            "cases": {},
            "runs": [],
        }

    def _before(self) -> dict[str, Any]:
        """What an earlier call with the same output has written."""
        if not self.asked.out.is_file():
            return self._empty()
        before = json.loads(self.asked.out.read_text(encoding="utf-8"))
        kept = {name: before[name] for name in ("limits", "cases", "runs")}
        return {**self._empty(), **kept}

    def _write(self) -> None:
        self.asked.out.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self.asked.out, (json.dumps(self.result, indent=1) + "\n").encode())


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    add = parser.add_argument
    add("--cases", nargs="+", choices=CASES, help="default: all, other-* only with --base")
    add("--sides", nargs="+", choices=SIDES, help="default: all")
    add("--repeats", type=int, default=3)
    add("--steps", type=int, default=4, help="timed optimizer steps of a run")
    add("--data", type=Path, default=TICKETS, help="rows to train on; default: the tickets")
    add("--base", type=Path, help="folder of the base of the other-* cases")
    add("--threads", type=int, default=machine.num_cores())
    add("--timeout", type=float, default=1800, help="seconds that one run may take")
    add("--lock", type=Path, help="hold the lock of this file while a side runs")
    add("--out", type=Path, default=RESULTS)
    add("--resume", action="store_true", help="keep the runs that --out has already")
    return parser.parse_args(arguments)


def _output(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def _revision() -> str:
    """The commit of this clone, so that a resumed measurement never mixes two of ours."""
    return _output(["git", "describe", "--always", "--dirty"])


if __name__ == "__main__":
    sys.exit(main())
