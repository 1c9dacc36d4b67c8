"""Where a verb's words go: people read standard error or a table, programs one JSON object."""

import json
import sys
from typing import Annotated, Any

import typer

from tunesmith.errors import TunesmithError

Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on standard output, all else on stderr."),
]
Recipe = Annotated[str, typer.Argument(help="Path of a recipe (YAML).")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes to it, such as train.learning_rate=1e-4.")
]
Until = Annotated[
    int | None,
    typer.Option(help="Stop after this step, as Ctrl-C would then; resume goes on from there."),
]
RunPath = Annotated[str, typer.Argument(help="A run folder, such as runs/quickstart.")]


def print_json(data: Any) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def print_rich(renderable: Any, *, error: bool = False) -> None:
    """Something for people, in colour where the terminal has any."""
    from rich.console import Console

    Console(stderr=error, highlight=False).print(renderable)


def print_error(error: TunesmithError, *, as_json: bool) -> None:
    """An error: for people on standard error, and as JSON too when that was asked for."""
    from rich.console import Console
    from rich.text import Text

    if as_json:
        parts = {"where": error.where, "got": error.got, "expected": error.expected}
        kind = type(error).__name__
        print_json({"error": {"kind": kind, **parts, "hint": error.hint}})
    text = Text()
    first, _, hint = error.message.partition("\nhint: ")
    text.append("error: ", style="bold red")
    text.append(first)
    if hint:
        text.append("\nhint: ", style="bold cyan")
        text.append(hint)
    Console(stderr=True, highlight=False, soft_wrap=True).print(text)
