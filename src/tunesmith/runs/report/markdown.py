"""The report as Markdown: `report.md`, for pull requests, wikis and terminals."""

from html import escape
from re import findall

from tunesmith.runs.report.chapter import Cell, Chapter
from tunesmith.runs.report.chapters import chapters
from tunesmith.runs.report.material import Material, Record
from tunesmith.runs.report.usage import uses
from tunesmith.runs.report.verdict import Verdict
from tunesmith.runs.report.wording import clipped, percent, printable

MAX_CHARACTERS = 2000
"""Of one text of a row; the rest is counted, the run's samples.json holds it whole."""


def render(material: Material) -> str:
    """The whole report.

    Returns:
        GitHub-flavoured Markdown that ends in a newline. Texts of users cannot form markup in it.
    """
    verdict = Verdict.of(material)
    name = material.report.get("name") or material.path.name
    parts = [f"# {inline(name)}: {verdict.status}", *_sentences(verdict)]
    if warnings := material.report.get("warnings"):
        parts += ["## Warnings", "\n".join(f"- {inline(warning)}" for warning in warnings)]
    first, *rest = [table(chapter) for chapter in chapters(material)] or [""]
    parts += [first, usage(material), compared(material.rows), *rest]
    return "\n\n".join(part for part in parts if part) + "\n"


def inline(text: str) -> str:
    """Text of a user on one line, without a character that Markdown or HTML would act on."""
    line = escape(" ".join(printable(text).split()), quote=False)
    return "".join(f"\\{letter}" if letter in "\\`*_[]|~#" else letter for letter in line)


def fenced(text: str, language: str = "") -> str:
    """Text in a code block whose fence is longer than any within."""
    longest = max((len(run) for run in findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{printable(text).rstrip()}\n{fence}"


def table(chapter: Chapter) -> str:
    """One chapter: heading, lead, table."""
    columns = chapter.columns or ("", "")
    head = [_line(columns), "|" + " --- |" * len(columns)]
    lines = [_line(row) for row in chapter.rows]
    return f"## {chapter.title}\n\n{chapter.lead}\n\n" + "\n".join(head + lines)


def usage(material: Material) -> str:
    """The commands; empty when there is nothing to use."""
    blocks = [f"{use.purpose}:\n\n{fenced(use.code, use.language)}" for use in uses(material)]
    return "\n\n".join(["## How to use it", *blocks]) if blocks else ""


def compared(rows: list[Record]) -> str:
    """Rows of the task, before and after; empty when there are none."""
    blocks = [_row(number, row) for number, row in enumerate(rows, 1)]
    return "\n\n".join(["## Rows before and after", *blocks]) if blocks else ""


def _row(number: int, row: Record) -> str:
    before, after = percent(row.get("score_before")), percent(row.get("score_after"))
    texts = (
        ("Prompt", row.get("prompt")),
        ("Expected", row.get("expected")),
        (f"Before ({before})", row.get("before")),
        (f"After ({after})", row.get("after")),
    )
    blocks = [
        f"{title}:\n\n{fenced(clipped(text, MAX_CHARACTERS), 'text')}"
        for title, text in texts
        if text is not None
    ]
    return "\n\n".join([f"### Row {number}", *blocks])


def _sentences(verdict: Verdict) -> list[str]:
    made = [f"**{inline(sentence.text)}**" for sentence in verdict.sentences]
    return [*made, fenced(verdict.way_on, "sh")] if verdict.way_on else made


def _line(cells: tuple[Cell, ...]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(cell: Cell) -> str:
    if isinstance(cell, bool):
        return "ok" if cell else "**not ok**"
    return "<br>".join(inline(line) for line in cell.split("\n"))
