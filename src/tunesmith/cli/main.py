"""The entry point: finds the verb, runs it, turns errors into messages and exit codes."""

import sys
import warnings

import typer

from tunesmith import __version__
from tunesmith.cli import (
    adapters,
    chat,
    classify,
    evaluate,
    export,
    find_lr,
    graders,
    merge,
    methods,
    plan,
    preview,
    prove,
    report,
    resume,
    runs,
    schema,
    train,
    verify,
)
from tunesmith.cli.output import print_error
from tunesmith.config import process
from tunesmith.errors import TunesmithError

VERBS = (
    train,
    plan,
    find_lr,
    preview,
    resume,
    prove,
    report,
    chat,
    classify,
    evaluate,
    export,
    merge,
    verify,
    runs,
    schema,
    methods,
    adapters,
    graders,
)


def build() -> typer.Typer:
    """The application, with one command per file of this folder."""
    app = typer.Typer(
        name="tunesmith",
        help="Fine-tune a pretrained language model, and prove what it did.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for verb in VERBS:
        name = verb.__name__.rpartition(".")[2].replace("_", "-")
        app.command(name=name, help=verb.__doc__)(verb.run)
    app.callback()(_options)
    return app


def _version(value: bool) -> None:
    if value:
        typer.echo(f"tunesmith {__version__}")
        raise typer.Exit


def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options of the whole program."""


def main() -> None:
    """Run the command line and leave with the exit code of the interface."""
    # Deprecations inside libraries are for us, in the tests, not for a user at a terminal.
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    process.settle()
    try:
        code = build()(standalone_mode=False)
    except TunesmithError as error:
        print_error(error, as_json="--json" in sys.argv)
        code = error.exit_code
    except typer.Exit as error:
        code = error.exit_code
    except typer.TyperException as error:
        print(f"error: {error.format_message()}\nhint: tunesmith --help", file=sys.stderr)
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        print("stopped", file=sys.stderr)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
