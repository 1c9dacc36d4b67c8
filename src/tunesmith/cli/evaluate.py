"""Score a run or a base on a task, or on public benchmarks."""

import json as json_module
from typing import Annotated, Any

import typer

from tunesmith.cli.output import Json, print_json, print_rich
from tunesmith.errors import CommandError

LmEval = Annotated[
    str | None, typer.Option(help="Tasks of lm-eval by name, commas between, instead of TASK.")
]
TaskFiles = Annotated[
    str | None, typer.Option(help="Folder with lm-eval task files of your own, which it runs.")
]


def run(
    name: Annotated[str, typer.Argument(help="A run folder, or a base such as starter.")],
    task: Annotated[
        str | None, typer.Argument(help="Data file with prompts and expected answers.")
    ] = None,
    grader: Annotated[str, typer.Option(help="A grader by its name, or its JSON.")] = "exact",
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 256,
    limit: Annotated[int | None, typer.Option(help="Only the first so many rows.")] = None,
    lm_eval: LmEval = None,
    task_files: TaskFiles = None,
    shots: Annotated[int | None, typer.Option(help="Worked examples, for lm-eval.")] = None,
    chat: Annotated[bool, typer.Option(help="Use the chat template, for lm-eval.")] = False,
    json: Json = False,
) -> None:
    """Generate an answer for each row and score it with a grader; or run tasks of lm-eval."""
    if (task is None) == (lm_eval is None):
        raise CommandError(
            "tunesmith evaluate",
            got="neither a data file nor --lm-eval" if task is None else "both TASK and --lm-eval",
            expected="one of them",
        )
    if task is not None:
        _score(name, task, _grader(grader), max_new_tokens, limit, as_json=json)
        return
    from tunesmith.api.harness import run_harness

    tasks = [each.strip() for each in lm_eval.split(",") if each.strip()]
    found = run_harness(name, tasks, limit=limit, shots=shots, folder=task_files, chat=chat)
    if json:
        print_json(found)
        return
    for each, scores in found["tasks"].items():
        print_rich(f"{each}: {_figures(scores)} on {scores['n']} rows")


def _score(
    name: str,
    task: str,
    grader: str | dict[str, Any],
    max_new_tokens: int,
    limit: int | None,
    *,
    as_json: bool,
) -> None:
    from tunesmith.api.evaluate import evaluate

    found = evaluate(name, task, grader, max_new_tokens, limit)
    if as_json:
        print_json(found)
        return
    if "figures" in found:
        print_rich(_judged(found))
        return
    low, high = found["interval"]
    called = grader if isinstance(grader, str) else grader.get("name") or grader["type"]
    print_rich(
        f"{found['task']}: {found['score']:.1%} on {found['n']} rows "
        f"(95 % interval {low:.1%} to {high:.1%}), grader {called}"
    )
    if found["failures"]:
        print_rich(f"{len(found['failures'])} not graded, first {found['failures'][0]}")


def _judged(found: dict[str, Any]) -> str:
    """What a model that does not write makes of the rows."""
    lines = [f"{found['task']}: loss {found['loss']:.3f} on {found['n']} rows"]
    for name, figure in found["figures"].items():
        low, high = figure["interval"]
        lines.append(f"{name} {figure['mean']:.3f} (95 % interval {low:.3f} to {high:.3f})")
    lines += [f"{name} {value:.3f}" for name, value in found["overall"].items()]
    return "\n".join(lines)


def _figures(scores: dict[str, Any]) -> str:
    """`acc 0.520 +- 0.050, ...`, with the standard error of each score that has one."""
    named = [key for key in scores if key != "n" and not key.endswith("_stderr")]
    return ", ".join(
        f"{key} {scores[key]:.3f}"
        + (f" +- {scores[f'{key}_stderr']:.3f}" if f"{key}_stderr" in scores else "")
        for key in named
    )


def _grader(text: str) -> str | dict[str, Any]:
    """A name, or JSON: what begins with a brace."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        return json_module.loads(text)
    except ValueError as error:
        raise CommandError("--grader", got=f"no JSON ({error})", expected="a grader") from error
