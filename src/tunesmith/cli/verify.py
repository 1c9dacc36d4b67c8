"""Check that a run folder holds what the run left there: every byte of checkpoints and export."""

from dataclasses import asdict

from tunesmith.cli.output import Json, RunPath, print_json, print_rich

DAMAGED = 3
"""The exit code of a gate that refused."""


def run(path: RunPath, json: Json = False) -> int:
    """Hash checkpoints and export and compare them with manifests and report; exit 3 on damage."""
    from rich.table import Table
    from rich.text import Text

    from tunesmith.api.verify import verify

    found = verify(path)
    ok = all(finding.ok for finding in found)
    if json:
        print_json({"run": path, "ok": ok, "findings": [asdict(finding) for finding in found]})
        return 0 if ok else DAMAGED
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for finding in found:
        mark = Text("ok", "green") if finding.ok else Text("damaged", "bold red")
        table.add_row(mark, Text(finding.what), Text(finding.says, overflow="fold"))
    print_rich(table if found else f"{path}: nothing saved yet")
    return 0 if ok else DAMAGED
