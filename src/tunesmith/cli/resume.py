"""Go on with a run that was stopped, to the same bits as without the stop."""

from pathlib import Path

from tunesmith.cli.output import Json, Overrides, RunPath, Until, print_json, print_rich


def run(
    path: RunPath, overrides: Overrides = None, until: Until = None, json: Json = False
) -> None:
    """Go on from the newest sound checkpoint; a changed recipe is refused and shown."""
    from tunesmith.api.train import resume
    from tunesmith.cli.live import Live
    from tunesmith.runs.report.terminal import render
    from tunesmith.runs.timeline import Timeline

    with Live(earlier=Timeline.read(Path(path))) as live:
        done = resume(path, overrides or (), [live], until)
    if json:
        print_json({"run": str(done.path), **done.report})
    else:
        print_rich(render(done.folder))
