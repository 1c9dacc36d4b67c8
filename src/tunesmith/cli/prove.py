"""Show that this recipe, killed and resumed, loses no bit on this machine."""

from typing import Annotated

import typer

from tunesmith.cli.output import Json, RunPath, print_json, print_rich


def run(
    path: RunPath,
    steps: Annotated[
        int | None, typer.Option(help="Steps to train; about 6 when left out.")
    ] = None,
    json: Json = False,
) -> int:
    """Train its first steps, kill, resume, train again; compare every bit, leave a certificate."""
    from tunesmith.api.prove import prove
    from tunesmith.runs.report.proof import proof
    from tunesmith.runs.report.terminal import table

    certificate = prove(path, steps, lambda text: print_rich(f"{text} ...", error=True))
    if json:
        print_json({"run": path, **certificate})
    else:
        print_rich(table(proof({"proof": certificate})))
        print_rich("proven" if certificate["ok"] else "not proven")
    return 0 if certificate["ok"] else 3
