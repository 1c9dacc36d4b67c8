"""List the graders: how outputs are scored."""

from typing import Annotated

import typer

from tunesmith.cli.output import Json, print_json, print_rich


def run(
    walls: Annotated[
        bool, typer.Option("--walls", help="Say instead which walls the sandbox has here.")
    ] = False,
    json: Json = False,
) -> None:
    """List the graders there are, with the keys that each takes."""
    from tunesmith.cli.listing import show
    from tunesmith.evaluate import graders

    if walls:
        _show_walls(as_json=json)
    else:
        show(graders, "grader.type", as_json=json)


def _show_walls(*, as_json: bool) -> None:
    from tunesmith.evaluate.sandbox.box import WALLS, Box

    standing = Box("", seconds=1, memory_mib=64).walls()
    missing = [wall for wall in WALLS if wall not in standing]
    if as_json:
        print_json({"walls": standing, "missing": missing})
        return
    print_rich(f"code of graders is kept in by walls around: {', '.join(standing)}")
    if missing:
        print_rich(f"this machine has none around: {', '.join(missing)} (see docs/graders.md)")
