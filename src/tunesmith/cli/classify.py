"""Say what a text is, by a run of method classify; reward runs give it a number."""

from typing import Annotated

import typer

from tunesmith.cli.output import Json, RunPath, print_json, print_rich

SHOWN = 3
"""Labels that are shown of each text."""


def run(
    name: RunPath,
    texts: Annotated[list[str], typer.Argument(help="One text or several.")],
    json: Json = False,
) -> None:
    """Classify texts with a run that was trained to."""
    from rich.table import Table

    from tunesmith.api.classify import classify

    found = classify(name, texts)
    if json:
        print_json({"texts": [{"text": t, **f} for t, f in zip(texts, found, strict=True)]})
        return
    table = Table(box=None, show_header=False)
    for text, said in zip(texts, found, strict=True):
        table.add_row(text, _shown(said))
    print_rich(table)


def _shown(said: dict) -> str:
    if "value" in said:
        return f"{said['value']:.3f}"
    ordered = sorted(said["probabilities"].items(), key=lambda pair: -pair[1])
    return ", ".join(f"{label} {share:.1%}" for label, share in ordered[:SHOWN])
