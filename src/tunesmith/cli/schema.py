"""Print the JSON Schema of the recipe, for editors."""

from tunesmith.cli.output import Json, print_json


def run(json: Json = False) -> None:
    """Print the JSON Schema of the recipe; with and without --json it is the same."""
    from tunesmith.recipe import json_schema

    print_json(json_schema())
