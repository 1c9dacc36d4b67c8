"""Make one adapter of several, with weights, and compare it with what it was made of."""

from typing import Annotated

import typer

from tunesmith.cli.output import Json, print_json, print_rich


def run(
    paths: Annotated[list[str], typer.Argument(help="Runs or adapter folders of one base.")],
    out: Annotated[str, typer.Option("--out", "-o", help="New or empty folder.")],
    weights: Annotated[
        str | None, typer.Option(help="A number for each, such as 0.7,0.3; all 1/n otherwise.")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            help="cat (the exact weighted sum), linear, svd, ties, dare_linear, dare_ties, "
            "magnitude_prune (each as PEFT has it, some with _svd), or slerp."
        ),
    ] = "cat",
    density: Annotated[
        float, typer.Option(help="Share of numbers that ties, dare and magnitude_prune keep.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Of what dare drops.")] = 0,
    json: Json = False,
) -> None:
    """Mix several LoRA adapters into one; the result is compared with the mixture in memory."""
    import json as json_module

    from tunesmith.api.merge import Manner, merge

    target = merge(paths, _numbers(weights, len(paths)), out, Manner(kind, density, seed))
    proof = json_module.loads((target / "certificate.json").read_text(encoding="utf-8"))
    if json:
        print_json({"path": str(target), "kind": kind, "certificate": proof})
        return
    print_rich(f"written to {target}")
    print_rich(
        f"reloaded in a fresh process: logits at most {proof['max_logit_difference']:.2g} from "
        f"the mixture in memory, {proof['equal_greedy_tokens']:.0%} of greedy tokens equal"
    )


def _numbers(text: str | None, number: int) -> list[float]:
    from tunesmith.errors import CommandError

    if text is None:
        return [1 / number] * number
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise CommandError("--weights", got=repr(text), expected="numbers, as 0.7,0.3") from error
