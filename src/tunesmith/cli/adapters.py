"""List the adapters: what is trained."""

from tunesmith.cli.output import Json


def run(json: Json = False) -> None:
    """List the adapters there are, with the keys that each takes in a recipe."""
    from tunesmith import adapters
    from tunesmith.cli.listing import show

    show(adapters, "adapter.name", as_json=json)
