"""Run a recipe from the beginning to a proven artefact."""

from tunesmith.cli.output import Json, Overrides, Recipe, Until, print_json, print_rich


def run(
    recipe: Recipe, overrides: Overrides = None, until: Until = None, json: Json = False
) -> None:
    """Run a recipe; the run folder is `output.dir`, or runs/ and the name of the recipe."""
    from tunesmith.api.train import train
    from tunesmith.cli.live import Live
    from tunesmith.runs.report.terminal import render

    with Live() as live:
        done = train(recipe, overrides or (), [live], until)
    if json:
        print_json({"run": str(done.path), **done.report})
    else:
        print_rich(render(done.folder))
