"""Show rows as the model sees them, with the trained tokens marked."""

from typing import Annotated

import typer

from tunesmith.cli.output import Json, Overrides, Recipe, print_json, print_rich


def run(
    recipe: Recipe,
    overrides: Overrides = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="How many rows.")] = 3,
    first: Annotated[int, typer.Option(min=1, help="Number of the first one.")] = 1,
    json: Json = False,
) -> None:
    """Render and tokenise rows exactly as training would, and show what is trained."""
    from tunesmith.api.preview import preview
    from tunesmith.cli.show_rows import RowView
    from tunesmith.cli.show_rows import preview as show

    shown = preview(recipe, overrides or (), rows, first)
    if json:
        pieces = [
            {
                "source": row.source,
                "row": row.number,
                "tokens": row.num_tokens,
                "tokens_trained": row.num_trained,
                "pieces": [{"text": text, "trained": trained} for text, trained in row.pieces],
            }
            for row in shown
        ]
        print_json({"rows": pieces})
        return
    print_rich(
        show(
            [
                RowView(
                    row.source,
                    row.number,
                    row.pieces,
                    row.num_tokens,
                    row.num_trained,
                    row.special_tokens,
                )
                for row in shown
            ]
        )
    )
