"""Measure a learning rate on the recipe's own first steps; no run is made."""

from typing import Annotated

import typer

from tunesmith.cli.output import Json, Overrides, Recipe, print_json, print_rich

SHOWN = 20
"""Lines of the table."""


def run(
    recipe: Recipe,
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(help="Steps, each with a higher rate.")] = 60,
    low: Annotated[float, typer.Option(help="Rate of the first step.")] = 1e-6,
    high: Annotated[float, typer.Option(help="Rate of the last step.")] = 1.0,
    plot: Annotated[
        str | None, typer.Option(help="PNG to write; beside the run folder if left out.")
    ] = None,
    json: Json = False,
) -> None:
    """Let the rate rise until the loss does, show the losses, and suggest a rate."""
    from tunesmith.api.find_lr import find_lr
    from tunesmith.engine.range_test import Rising

    rates = Rising(low, high, steps)
    found = find_lr(
        recipe, overrides or (), rates, plot, lambda text: print_rich(f"{text} ...", error=True)
    )
    if json:
        print_json(found)
        return
    print_rich(_table(found["points"]))
    print_rich(_says(found))


def _table(points: list[dict]) -> object:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("rate", "loss", "of the base", "change, smoothed"):
        table.add_column(name, justify="right")
    every = -(-len(points) // SHOWN)
    for point in points[::every]:
        numbers = (point["loss"], point["start"], point["smoothed"])
        table.add_row(f"{point['rate']:.2g}", *(f"{number:.3f}" for number in numbers))
    return table


def _says(found: dict) -> str:
    usual = f"auto would take {found['usual']:.2g} ({found['usual_source']})"
    if found["suggested"] is None:
        return f"the loss hardly fell: try more --steps or a higher --high; {usual}"
    if found["diverged"] is None:
        why = "the rate at which the loss falls fastest: none was so high that training diverges"
    else:
        why = (
            f"a tenth of {found['diverged']:.2g}, where half of the fall is given back; the loss "
            f"falls fastest at {found['steepest']:.2g}, a careful choice"
        )
    return (
        f"Suggested: train.learning_rate={found['suggested']:.2g}, {why}.\n"
        f"{usual}; curve: {found['plot']}"
    )
