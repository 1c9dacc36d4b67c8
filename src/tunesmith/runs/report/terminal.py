"""The report for a terminal: compact tables, no wider than needed."""

from dataclasses import replace

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tunesmith.runs.folder import RunFolder
from tunesmith.runs.report.chapter import Cell, Chapter
from tunesmith.runs.report.chapters import chapters
from tunesmith.runs.report.material import Material, Record
from tunesmith.runs.report.usage import uses
from tunesmith.runs.report.verdict import Verdict
from tunesmith.runs.report.wording import clipped, percent, plural, printable

STYLES = {"good": "green", "bad": "bold red", "warn": "yellow", "plain": ""}
"""Colour of each tone."""

MAX_CHARACTERS = 400
"""Of one text of a row; report.html shows more of it."""

MAX_ROWS = 3
"""Rows shown before and after; report.html shows them all."""


def render(folder: RunFolder) -> RenderableType:
    """The report of a run, for `rich`.

    Raises:
        CommandError: A file of the folder is damaged.
    """
    material = Material.read(folder)
    verdict = Verdict.of(material)
    first, *rest = [table(chapter) for chapter in chapters(material)] or [Text()]
    parts = [headline(material, verdict), warnings(material.report), first]
    parts += [compared(material.rows), *rest, usage(material)]
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts if part))


def headline(material: Material, verdict: Verdict) -> Text:
    """Name, status and the sentences of the verdict."""
    name = printable(material.report.get("name") or material.path.name)
    text = Text.assemble((name, "bold"), "  ", (verdict.status, STYLES[verdict.tone]))
    for sentence in verdict.sentences:
        text.append(f"\n{printable(sentence.text)}", STYLES[sentence.tone])
    if verdict.way_on:
        text.append("\ngo on with: ").append(printable(verdict.way_on), "bold")
    return text


def table(chapter: Chapter) -> Group:
    """One chapter: its title, and a table without lines."""
    made = Table(
        header_style="dim",
        show_header=bool(chapter.columns),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for index, column in enumerate(chapter.columns or ("", "")):
        made.add_column(column, style="" if index or chapter.columns else "dim", overflow="fold")
    for row in one_line(chapter).rows:
        made.add_row(*(cell(value) for value in row))
    return Group(Text(chapter.title, "bold"), made)


def cell(value: Cell) -> Text:
    """A cell: text as it is, a check in its colour."""
    if isinstance(value, bool):
        return Text("ok", "green") if value else Text("not ok", "bold red")
    return Text(printable(value))


def one_line(chapter: Chapter) -> Chapter:
    """The chapter with lists within a cell written in one line, to save height."""
    rows = (
        tuple(each if isinstance(each, bool) else ", ".join(each.split("\n")) for each in row)
        for row in chapter.rows
    )
    return replace(chapter, rows=tuple(rows))


def compared(rows: list[Record]) -> Group | None:
    """Rows of the task, before and after; None when there are none."""
    if not rows:
        return None
    shown = [_row(row) for row in rows[:MAX_ROWS]]
    more = len(rows) - len(shown)
    rest = [Text(f"{plural(more, 'more row')} in report.html", "dim")] if more else []
    return Group(Text("Rows before and after", "bold"), *shown, *rest)


def _row(row: Record) -> Padding:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    scores = {"before": row.get("score_before"), "after": row.get("score_after")}
    for name in ("prompt", "expected", "before", "after"):
        if row.get(name) is not None:
            score = f" ({percent(scores[name])})" if scores.get(name) is not None else ""
            text = printable(clipped(row[name], MAX_CHARACTERS))
            grid.add_row(name + score, Text(text, "bold" if name == "after" else ""))
    return Padding(grid, (0, 0, 1, 0))


def warnings(report: Record) -> Text | None:
    """The warnings of the run, one a line; None when there were none."""
    lines = [f"warning: {printable(warning)}" for warning in report.get("warnings") or ()]
    return Text("\n".join(lines), "yellow") if lines else None


def usage(material: Material) -> Text | None:
    """The commands that use the run; None when there are none."""
    commands = [use for use in uses(material) if use.language == "sh"]
    if not commands:
        return None
    text = Text("How to use it", "bold")
    for use in commands:
        text.append(f"\n{use.purpose}: ", "not bold").append(printable(use.code), "not bold cyan")
    return text
