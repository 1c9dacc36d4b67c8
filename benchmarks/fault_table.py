"""Counts the trials of `benchmarks.faults` and shows them: in the terminal and in Markdown."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.fault_lab import SYSTEMS

TITLES = {
    "kill": "SIGKILL during a save",
    "flip": "one bit flipped in the newest checkpoint",
    "truncate": "the newest checkpoint cut short",
    "nan": "NaN loss at one step",
    "clock": "clock stepped back by a day",
    "disk": "disk full during a save",
}
COLUMNS = ("fault", "system", "by itself", "bitwise equal", "detected", "silently wrong")
NONE = "–"  # noqa: RUF001 - an en dash is what a table wants for nothing to count
MOST_CAUSES = 4
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
"""Marks in a page of Markdown between which the table stands."""


@dataclass
class Row:
    """A system under a fault; each number counts trials.

    Attributes:
        fault: Its name.
        system: Its name.
        trials: That were run.
        resumed: Ended as finished with the documented command alone.
        equal: Ended in the bits of the undisturbed run; None where that is not asked.
        detected: Gave an error or a message; None where none is owed.
        silent: Ended wrong without a word.
        causes: Why runs did not end, by message without figures.
        refused: Why nothing was run.
    """

    fault: str
    system: str
    trials: int = 0
    resumed: int = 0
    equal: int | None = None
    detected: int | None = None
    silent: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    refused: str = ""

    def add(self, trial: dict[str, Any]) -> None:
        """Count one trial."""
        if "refused" in trial:
            self.refused = trial["refused"]
            return
        self.trials += 1
        self.resumed += trial["resumable"]
        self.silent += trial["silent"]
        if trial["equal"] is not None:
            self.equal = (self.equal or 0) + trial["equal"]
        if trial["detected"] is not None:
            self.detected = (self.detected or 0) + trial["detected"]
        if not trial["resumable"]:
            self.causes[_cause(trial["errors"])] += 1
        elif trial["silent"]:
            self.causes[_harm(trial)] += 1

    def cells(self) -> list[str]:
        """What the table shows."""
        title = SYSTEMS[self.system].title
        if not self.trials:
            return [TITLES[self.fault], title, f"no trial: {self.refused}", *[""] * 3]
        return [TITLES[self.fault], title] + [
            NONE if n is None else f"{n}/{self.trials}"
            for n in (self.resumed, self.equal, self.detected, self.silent)
        ]


def count(result: dict[str, Any]) -> list[Row]:
    """The rows of the table: by fault, and in it by system."""
    rows = {}
    for fault in TITLES:
        for system in SYSTEMS:
            mine = [t for t in result["trials"] if (t["fault"], t["system"]) == (fault, system)]
            for trial in mine:
                rows.setdefault((fault, system), Row(fault, system)).add(trial)
    return list(rows.values())


def print_table(console: Console, rows: list[Row]) -> None:
    """The table in the terminal."""
    table = Table(title="The same faults, each system's own resume", title_justify="left")
    for name in COLUMNS:
        left = name in ("fault", "system")
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    before = ""
    for row in rows:
        cells = row.cells()
        style = "bold" if row.system == "tunesmith" else None
        table.add_row("" if row.fault == before else cells[0], *cells[1:], style=style)
        before = row.fault
    console.print(table)


def table_lines(rows: list[Row]) -> list[str]:
    """The table in Markdown."""
    head = [f"| {' | '.join(COLUMNS)} |", "|---|---|" + "---:|" * (len(COLUMNS) - 2)]
    return head + [f"| {' | '.join(row.cells())} |" for row in rows]


def insert(page: str, rows: list[Row]) -> str:
    """A page with the table put between its two marks."""
    before, _, rest = page.partition(f"{BEGIN}\n")
    _, _, after = rest.partition(END)
    return "\n".join([before + BEGIN, "", *table_lines(rows), "", END + after])


def markdown(result: dict[str, Any], rows: list[Row]) -> str:
    """The whole page: table, what went wrong how often, versions."""
    about = result["machine"]
    lines = ["# The same faults on three systems", ""]
    lines += [
        f"{about['processor']}, {about['cores']} cores, {about['memory_gib']:.0f} GiB, "
        f"{about['system']}, Python {about['python']}; one thread. Made by "
        "`python -m benchmarks.faults`, whose opening text says what is counted; every trial is in "
        "the JSON beside this page.",
        "",
        *table_lines(rows),
        "",
        "## What went wrong",
        "",
    ]
    for row in rows:
        for cause, number in row.causes.most_common(MOST_CAUSES):
            lines.append(f"- {TITLES[row.fault]}, {SYSTEMS[row.system].title}: {number} x {cause}")
    lines += ["", "## Versions", ""]
    for system, facts in result["systems"].items():
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        milliseconds = 1000 * facts["span_seconds"]
        lines.append(f"- {SYSTEMS[system].title}: {versions}; a save takes {milliseconds:.1f} ms")
    return "\n".join(lines) + "\n"


def _cause(errors: list[str]) -> str:
    """The last error without paths and figures; `|` would break a table."""
    text = errors[-1].splitlines()[0] if errors else "no message"
    text = re.sub(r"'?RUNS/\S+", "PATH", text)
    return re.sub(r"\d[\d,.]*", "#", text).replace("|", "/")[:140]


def _harm(trial: dict[str, Any]) -> str:
    """What was silently wrong."""
    if trial.get("finite") is False:
        return "finished, with weights that are not finite"
    if trial.get("newest_kept") is False:
        return "the newest checkpoint was deleted"
    if "file" in trial:
        return f"finished with other bits after a change in {trial['file']}"
    return "finished with other bits"
