"""Write a trained model for another program, and compare it with the original."""

from typing import Annotated, Any

import typer

from tunesmith.cli.output import Json, RunPath, print_json, print_rich


def run(
    path: RunPath,
    to: Annotated[
        str,
        typer.Option(help="merged (one model), adapter (PEFT), gguf (llama.cpp) or ollama."),
    ] = "merged",
    type: Annotated[
        str | None,
        typer.Option(help="f32, f16, bf16, or q8_0 for gguf and ollama; the usual one otherwise."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="New or empty folder; export-<to> in the run otherwise.")
    ] = None,
    scale: Annotated[
        float, typer.Option(help="Factor on the adapter's update: 0.7 for less, 0 for the base.")
    ] = 1.0,
    json: Json = False,
) -> None:
    """Write the trained weights for transformers, PEFT, llama.cpp or Ollama, compared."""
    import json as json_module

    from tunesmith.api.run import Run

    target = Run.open(path).export(to, out, type, scale)
    proof = json_module.loads((target / "certificate.json").read_text(encoding="utf-8"))
    if json:
        print_json({"path": str(target), "to": to, "certificate": proof})
        return
    print_rich(f"written to {target}")
    print_rich(_table(proof))
    for what, found in proof["also"].items():
        print_rich(
            f"{what}: mean KL {found['mean_kl']:.2g} nats, "
            f"{found['equal_greedy_tokens']:.1%} of greedy tokens equal"
        )


def _table(proof: dict[str, Any]) -> Any:
    """The certificate for people: each figure beside its limit."""
    from rich.table import Table

    table = Table(
        title=f"compared with the trained model on {proof['prompts']} prompts, "
        f"read by {proof['reader']}",
        title_justify="left",
    )
    for name in ("figure", "found", "limit"):
        table.add_column(name)
    for name in (
        "mean_kl",
        "worst_kl",
        "max_logit_difference",
        "relative_difference",
        "equal_greedy_tokens",
    ):
        limit = proof["limits"].get(name)
        table.add_row(name, f"{proof[name]:.3g}", "" if limit is None else f"{limit:g}")
    if loss := proof["heldout_loss"]:
        found = f"{loss['trained']:.4f} trained, {loss['exported']:.4f} exported"
        table.add_row(f"loss on {loss['rows']} held-out rows", found, "")
    if proof["texts"]:
        table.add_row("texts with other token ids", str(proof["unequal_texts"]), "0")
    if template := proof["template"]:
        found = f"{template['equal']} of {template['conversations']} conversations"
        table.add_row("template equal in every byte", found, "")
    return table
