"""The report as one page: `report.html`, self-contained, without script or network.

Every text passes through `html.escape`, and the page forbids itself to run or load anything.
"""

from html import escape
from re import fullmatch

from tunesmith.runs.report.cards import Card, cards
from tunesmith.runs.report.chapter import Cell, Chapter
from tunesmith.runs.report.chapters import chapters
from tunesmith.runs.report.material import Material, Record
from tunesmith.runs.report.plots import plots
from tunesmith.runs.report.style import STYLE
from tunesmith.runs.report.usage import uses
from tunesmith.runs.report.verdict import Tone, Verdict
from tunesmith.runs.report.wording import clipped, moment, percent, printable

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Content security policy: styles of the page itself, and nothing else at all."""

MAX_CHARACTERS = 4000
"""Of one text of a row; the rest is counted, the run's samples.json holds it whole."""

MAX_OPEN_ROWS = 14
"""A chapter with more rows is closed until asked for."""

HEXADECIMAL = r"[0-9a-f]{32,}"


def render(material: Material) -> str:
    """The whole page.

    Returns:
        HTML that needs nothing else; it follows the reader's choice of light or dark.
    """
    verdict = Verdict.of(material)
    name = text(material.report.get("name") or material.path.name)
    first, *rest = [chapter_html(chapter) for chapter in chapters(material)] or [""]
    body = [
        _header(name, material.report, verdict),
        cards_html(cards(material.report)),
        warnings_html(material.report),
        plots_html(material),
        first,
        rows_html(material.rows),
        usage_html(material),
        *rest,
        f"<footer>{_footer(material)}</footer>",
    ]
    head = (
        '<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}: {text(verdict.status)}</title>\n<style>{STYLE}</style>"
    )
    content = "\n".join(part for part in body if part)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n'
        f"<body>\n{content}\n</body>\n</html>\n"
    )


def text(value: str) -> str:
    """Text of anyone as HTML that shows it and does nothing else."""
    return escape(printable(value))


def badge(label: str, tone: Tone) -> str:
    """A short word in the colour of its tone."""
    return f'<span class="badge {tone}">{text(label)}</span>'


def section(title: str, content: str, lead: str = "", kind: str = "") -> str:
    """A part of the page under its heading."""
    lead = f'<p class="lead">{text(lead)}</p>\n' if lead else ""
    return f'<section class="{kind}">\n<h2>{text(title)}</h2>\n{lead}{content}\n</section>'


def cards_html(made: list[Card]) -> str:
    """The figures that are read first; empty when there are none."""
    entries = "\n".join(
        f'<div><dt>{text(card.label)}</dt><dd class="big {card.tone}">{text(card.value)}</dd>'
        f'<dd class="note">{text(card.note)}</dd></div>'
        for card in made
    )
    return f'<dl class="cards">\n{entries}\n</dl>' if made else ""


def warnings_html(report: Record) -> str:
    """What a person should know; empty when there is nothing."""
    lines = "".join(f"<li>{text(warning)}</li>" for warning in report.get("warnings") or ())
    return section("Warnings", f"<ul>{lines}</ul>", kind="warnings") if lines else ""


def plots_html(material: Material) -> str:
    """The course of the run; empty when it took no step."""
    figures = "\n".join(
        f"<figure><figcaption>{text(plot.title)}</figcaption>{plot.svg}</figure>"
        for plot in plots(material)
    )
    return (
        section("The course of the run", f'<div class="plots">{figures}</div>') if figures else ""
    )


def chapter_html(chapter: Chapter) -> str:
    """One chapter as a table."""
    numbers = numeric_columns(chapter)
    head = "".join(
        f'<th scope="col"{" class=number" if index in numbers else ""}>{text(column)}</th>'
        for index, column in enumerate(chapter.columns)
    )
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    lines = "\n".join(_line(row, numbers, facts=not chapter.columns) for row in chapter.rows)
    kind = "" if chapter.columns else ' class="facts"'
    table = f'<div class="wide"><table{kind}>{head}<tbody>\n{lines}\n</tbody></table></div>'
    if len(chapter.rows) > MAX_OPEN_ROWS:
        table = f"<details><summary>Show {len(chapter.rows)} lines</summary>{table}</details>"
    return section(chapter.title, table, chapter.lead)


def numeric_columns(chapter: Chapter) -> set[int]:
    """Columns whose every text starts like a number: they are set flush right."""

    def is_number(cell: Cell) -> bool:
        return isinstance(cell, str) and bool(fullmatch(r"[-+]?\d.*|-|", cell))

    columns = range(1, len(chapter.columns) - 1)
    return {index for index in columns if all(is_number(row[index]) for row in chapter.rows)}


def _line(cells: tuple[Cell, ...], numbers: set[int], facts: bool) -> str:
    made = [_cell(cell, index in numbers) for index, cell in enumerate(cells)]
    if facts:
        made[0] = f'<th scope="row">{text(str(cells[0]))}</th>'
    return f"<tr>{''.join(made)}</tr>"


def _cell(cell: Cell, number: bool) -> str:
    if isinstance(cell, bool):
        return f'<td class="check">{badge(*("ok", "good") if cell else ("not ok", "bad"))}</td>'
    kind = "number" if number else "mono" if fullmatch(HEXADECIMAL, cell) else ""
    return f'<td class="{kind}">{text(cell)}</td>' if kind else f"<td>{text(cell)}</td>"


def rows_html(rows: list[Record]) -> str:
    """Rows of the task side by side; empty when there are none."""
    if not rows:
        return ""
    lead = "Rows of the task, answered by the base and by the result."
    return section("Rows before and after", "\n".join(_row(row) for row in rows), lead)


def _row(row: Record) -> str:
    answers = "".join(
        _answer(title, row, key)
        for title, key in (("expected", "expected"), ("before", "before"), ("after", "after"))
        if row.get(key) is not None
    )
    prompt = text(clipped(row.get("prompt") or "", MAX_CHARACTERS))
    return (
        f'<article class="row"><div class="prompt"><h3>prompt</h3><pre>{prompt}</pre></div>'
        f'<div class="answers">{answers}</div></article>'
    )


def _answer(title: str, row: Record, key: str) -> str:
    score = row.get(f"score_{key}")
    mark = "" if score is None else badge(percent(score), _score_tone(score))
    body = text(clipped(row[key], MAX_CHARACTERS))
    return f"<div><h3>{title} {mark}</h3><pre>{body}</pre></div>"


def _score_tone(score: float) -> Tone:
    return "good" if score >= 1 else "bad" if score <= 0 else "warn"


def usage_html(material: Material) -> str:
    """The commands; empty when there is nothing to use."""
    blocks = "\n".join(
        f'<div class="use"><h3>{text(use.purpose)}</h3>'
        f'<pre class="code">{text(use.code.rstrip())}</pre></div>'
        for use in uses(material)
    )
    return section("How to use it", blocks) if blocks else ""


def _header(name: str, report: Record, verdict: Verdict) -> str:
    sentences = "\n".join(
        f'<p class="{sentence.tone}">{text(sentence.text)}</p>' for sentence in verdict.sentences
    )
    way_on = f'<pre class="code">{text(verdict.way_on)}</pre>' if verdict.way_on else ""
    return (
        f'<header>\n<p class="kind">Tunesmith run{_origin(report)}</p>\n'
        f'<div class="name"><h1>{name}</h1>{badge(verdict.status, verdict.tone)}</div>\n'
        f'<div class="verdict {verdict.tone}">\n{sentences}\n{way_on}</div>\n</header>'
    )


def _origin(report: Record) -> str:
    base = (report.get("base") or {}).get("id")
    adapter = (report.get("adapter") or {}).get("name")
    parts = [f" on {text(base)}" if base else "", f" with {text(adapter)}" if adapter else ""]
    return "".join(parts)


def _footer(material: Material) -> str:
    report = material.report
    words = ("started", "finished")
    spans = [f"{word} {moment(report[word])}" for word in words if report.get(word)]
    made = "Made by Tunesmith from the run folder alone; report.json holds the same for programs."
    return ". ".join([text("The run " + ", ".join(spans)), made] if spans else [made])
