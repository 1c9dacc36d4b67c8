"""List the methods: how the loss is made."""

from tunesmith.cli.output import Json


def run(json: Json = False) -> None:
    """List the methods there are, with the keys that each takes in a recipe."""
    from tunesmith import methods
    from tunesmith.cli.listing import show

    show(methods, "method.name", as_json=json)
