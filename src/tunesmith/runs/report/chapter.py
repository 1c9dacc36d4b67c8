"""What every part of a report is: a heading, a lead and a table, whatever form it takes."""

from dataclasses import dataclass
from typing import Any

from tunesmith.runs.report.wording import MISSING

Cell = str | bool
"""Text, or whether a check is ok."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One part of a report.

    Attributes:
        title: Heading.
        lead: A sentence or two for a reader who meets the subject for the first time.
        columns: Heads of the columns; empty for a list of names and figures.
        rows: Cells in the order of the columns.
    """

    title: str
    lead: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def facts(title: str, lead: str, pairs: dict[str, str]) -> Chapter | None:
    """A chapter of names and figures; what is missing is left out, None when all is."""
    rows = tuple((name, value) for name, value in pairs.items() if value not in ("", MISSING))
    return Chapter(title, lead, (), rows) if rows else None


def written(value: Any) -> str:
    """A figure of any type; long fractions are cut to four digits."""
    if value is None:
        return "not finite"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
