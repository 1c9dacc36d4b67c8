"""Score a run or a base on a task."""

import json as json_module
from typing import Annotated, Any

import typer

from tunesmith.cli.output import Json, print_json, print_rich
from tunesmith.errors import CommandError


def run(
    name: Annotated[str, typer.Argument(help="A run folder, or a base such as starter.")],
    task: Annotated[str, typer.Argument(help="Data file with prompts and expected answers.")],
    grader: Annotated[str, typer.Option(help="A grader by its name, or its JSON.")] = "exact",
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 256,
    limit: Annotated[int | None, typer.Option(help="Only the first so many rows.")] = None,
    json: Json = False,
) -> None:
    """Generate an answer for each row and score it with a grader."""
    from tunesmith.api.evaluate import evaluate

    found = evaluate(name, task, _grader(grader), max_new_tokens, limit)
    if json:
        print_json(found)
        return
    low, high = found["interval"]
    print_rich(
        f"{found['task']}: {found['score']:.1%} on {found['n']} rows "
        f"(95 % interval {low:.1%} to {high:.1%}), grader {grader}"
    )


def _grader(text: str) -> str | dict[str, Any]:
    """A name, or JSON: what begins with a brace."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        return json_module.loads(text)
    except ValueError as error:
        raise CommandError("--grader", got=f"no JSON ({error})", expected="a grader") from error
