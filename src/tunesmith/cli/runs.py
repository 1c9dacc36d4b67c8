"""List runs: status, score, when."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.output import Json, print_json, print_rich


def run(
    root: Annotated[str, typer.Argument(help="Folder that holds run folders.")] = "runs",
    json: Json = False,
) -> None:
    """List the runs in a folder, the newest first."""
    from rich.table import Table

    from tunesmith.runs.listing import list_runs

    found = list_runs(Path(root))
    if json:
        print_json({"runs": [asdict(summary) for summary in found]})
        return
    if not found:
        print_rich(f"no runs in {root}; start one with: tunesmith train recipes/quickstart.yaml")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("run", "status", "step", "score", "started", "took"):
        table.add_column(column)
    for s in found:
        table.add_row(
            s.name,
            s.status,
            f"{s.step}/{s.num_steps}" if s.num_steps else "-",
            _score(s.score_name, s.score_before, s.score_after),
            (s.started or "-")[:16].replace("T", " "),
            f"{s.seconds / 60:.1f} min" if s.seconds else "-",
        )
    print_rich(table)


def _score(name: str | None, before: float | None, after: float | None) -> str:
    if name is None or after is None:
        return "-"
    old = "" if before is None else f"{before:.1%} -> "
    return f"{name} {old}{after:.1%}"
