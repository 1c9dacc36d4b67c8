"""Score a run or a base on a task."""

from typing import Annotated, Any

import typer

from tunesmith.cli.output import Json, print_json, print_rich


def run(
    name: Annotated[str, typer.Argument(help="A run folder, or a base such as starter.")],
    task: Annotated[str, typer.Argument(help="Data file with prompts and expected answers.")],
    grader: Annotated[str, typer.Option(help="A grader by its name.")] = "exact",
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 256,
    limit: Annotated[int | None, typer.Option(help="Only the first so many rows.")] = None,
    json: Json = False,
) -> None:
    """Generate an answer for each row and score it with a grader."""
    from tunesmith.api.evaluate import evaluate

    found = evaluate(name, task, grader, max_new_tokens, limit)
    if json:
        print_json(found)
        return
    if "figures" in found:
        print_rich(_judged(found))
        return
    low, high = found["interval"]
    print_rich(
        f"{found['task']}: {found['score']:.1%} on {found['n']} rows "
        f"(95 % interval {low:.1%} to {high:.1%}), grader {grader}"
    )


def _judged(found: dict[str, Any]) -> str:
    """What a model that does not write makes of the rows."""
    lines = [f"{found['task']}: loss {found['loss']:.3f} on {found['n']} rows"]
    for name, figure in found["figures"].items():
        low, high = figure["interval"]
        lines.append(f"{name} {figure['mean']:.3f} (95 % interval {low:.3f} to {high:.3f})")
    lines += [f"{name} {value:.3f}" for name, value in found["overall"].items()]
    return "\n".join(lines)
