"""Show the report of a run, and write its pages anew."""

from pathlib import Path

from tunesmith.cli.output import Json, RunPath, print_json, print_rich


def run(path: RunPath, json: Json = False) -> None:
    """Print the report as a table; report.md and report.html are written again."""
    import json as json_module

    from tunesmith.errors import CommandError
    from tunesmith.runs.folder import RunFolder
    from tunesmith.runs.report.terminal import render
    from tunesmith.runs.report.write import write

    folder = RunFolder.open(Path(path))
    if folder.report_json.is_file():
        write(folder)
    elif json:
        raise CommandError(
            path, got="a run without a report", expected="a run that came to its end"
        )
    if json:
        print_json(json_module.loads(folder.report_json.read_text(encoding="utf-8")))
    else:
        print_rich(render(folder))
