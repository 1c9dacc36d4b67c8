"""Write a trained model for another program, and compare it with the original."""

from typing import Annotated

import typer

from tunesmith.cli.output import Json, RunPath, print_json, print_rich


def run(
    path: RunPath,
    to: Annotated[str, typer.Option(help="merged (one model) or adapter (PEFT).")] = "merged",
    out: Annotated[
        str | None, typer.Option(help="New or empty folder; export-<to> in the run otherwise.")
    ] = None,
    json: Json = False,
) -> None:
    """Write the trained weights as safetensors that transformers or PEFT load."""
    import json as json_module

    from tunesmith.api.run import Run

    target = Run.open(path).export(to, out)
    certificate = target / "certificate.json"
    proof = json_module.loads(certificate.read_text()) if certificate.is_file() else None
    if json:
        print_json({"path": str(target), "to": to, "certificate": proof})
        return
    print_rich(f"written to {target}")
    if proof:
        print_rich(
            f"compared with the adapter on {proof['prompts']} prompts: largest logit difference "
            f"{proof['max_logit_difference']:.2g} (tolerance {proof['tolerance']:g}), "
            f"{proof['equal_greedy_tokens']:.1%} of greedy tokens equal"
        )
        for what, found in proof["also"].items():
            print_rich(
                f"{what}: largest logit difference {found['max_logit_difference']:.2g}, "
                f"{found['equal_greedy_tokens']:.1%} of greedy tokens equal"
            )
