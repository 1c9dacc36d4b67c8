"""The result for people: a table in the terminal, and the same in Markdown."""

from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.compare import Row, Spread
from benchmarks.roster import OURS, SIDES

COLUMNS = (
    "side",
    "tokens/s",
    "trained/s",
    "of limit",
    "padding",
    "peak GiB",
    f"times slower than {OURS}",
    "loss, first to last",
)


def cells(row: Row, limit: float | None) -> list[str]:
    """The cells of a side; one without figures shows its remark in the second."""
    if row.tokens is None:
        return [row.side, f"- ({row.remark})", *[""] * (len(COLUMNS) - 2)]
    losses = f"{row.losses[0]:.3f} to {row.losses[-1]:.3f}"
    return [
        row.side,
        _spread(row.tokens, 0),
        f"{row.trained.median:.0f}",
        "" if limit is None else f"{row.tokens.median / limit:.0%}",
        f"{row.padding:.0%}",
        f"{row.peak_gib:.1f}",
        _spread(row.ratio, 2) if row.ratio else "",
        f"{losses}; {row.remark}" if row.remark else losses,
    ]


def print_case(console: Console, title: str, rows: list[Row], facts: dict[str, Any]) -> None:
    """One case as a table in the terminal."""
    table = Table(
        title=title, caption=describe(facts), title_justify="left", caption_justify="left"
    )
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "side" else "right", overflow="fold")
    for row in rows:
        style = "bold" if row.side == OURS else "red" if row.wrong else None
        table.add_row(*cells(row, facts.get("limit_tokens_per_second")), style=style)
    console.print(table)


def markdown(title: str, rows: list[Row], facts: dict[str, Any]) -> str:
    """One case as a Markdown section; sides without figures are listed below the table."""
    measured = [row for row in rows if row.tokens is not None]
    lines = [f"## {title}", "", describe(facts), ""]
    lines += [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    limit = facts.get("limit_tokens_per_second")
    lines += [f"| {' | '.join(cells(row, limit))} |" for row in measured]
    missing = [row for row in rows if row.tokens is None]
    if missing:
        lines += ["", *(f"- {row.side}: {row.remark}" for row in missing)]
    return "\n".join(lines) + "\n"


def describe(facts: dict[str, Any]) -> str:
    """What was trained and what the machine could do at most, in a line."""
    text = (
        f"{facts['rows_per_step']} rows and {facts['tokens_per_step']:.0f} tokens a step, "
        f"{facts['share_trained']:.0%} of them trained; {facts['timed_steps']} timed steps, "
        f"{facts['repeats']} repeats; median (smallest to largest)."
    )
    limit = facts.get("limit_tokens_per_second")
    if limit is None:
        return text
    return (
        f"{text} Limit of the machine: {limit:.0f} tokens/s, "
        f"{facts['mflop_per_token']:.0f} MFLOP a token at {facts['limit_gflops']:.0f} GFLOP/s "
        f"({facts['limit_type']}), the best of its shapes; "
        f"{facts['shapes_tokens_per_second']:.0f} tokens/s with each shape at its own rate."
    )


def page(result: dict[str, Any], sections: list[str]) -> str:
    """The whole result in Markdown."""
    machine, sides = result["machine"], result["sides"]
    lines = [
        "# Tunesmith beside other fine-tuning programs",
        "",
        f"{result['date']}; {machine['processor']}, {machine['cores']} cores, "
        f"{machine['threads']} threads, {machine['memory_gib']:.0f} GiB, {machine['system']}. "
        "Made by `python -m benchmarks.peers`; the figures of every run are in the JSON beside it.",
        "",
        *sections,
        "## Sides",
        "",
        *(f"- `{name}`: {SIDES[name].title}. {_versions(result, name)}" for name in sides),
        "",
    ]
    return "\n".join(lines)


def _versions(result: dict[str, Any], side: str) -> str:
    for run in result["runs"]:
        if run["side"] == side and run.get("versions"):
            return ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return ""


def _spread(values: Spread, digits: int) -> str:
    """Median and range; the median alone when there was one repeat."""
    if values.low == values.high:
        return f"{values.median:.{digits}f}"
    low, high = f"{values.low:.{digits}f}", f"{values.high:.{digits}f}"
    return f"{values.median:.{digits}f} ({low} to {high})"
