"""Talk to a run or to a base; --compare base answers with both."""

import sys
from typing import Annotated, Any

import typer

from tunesmith.cli.output import Json, print_json
from tunesmith.errors import CommandError


def run(
    name: Annotated[str, typer.Argument(help="A run folder, or a base such as starter.")],
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="One message instead of a conversation.")
    ] = None,
    compare: Annotated[str | None, typer.Option(help="base: answer with the base as well.")] = None,
    system: Annotated[
        str | None, typer.Option(help="System message; a run brings its own if its rows had one.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Nucleus sampling; 1 keeps everything.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 0,
    json: Json = False,
) -> None:
    """Talk to a run or a base. An empty line or Ctrl-D ends it, /new starts again."""
    from tunesmith.api.answer import open_speaker
    from tunesmith.cli.conversation import Conversation
    from tunesmith.generate.options import Sampling

    if compare not in (None, "base"):
        raise CommandError("--compare", got=repr(compare), expected="base")
    if json and message is None:
        raise CommandError("--json", got="no --message", expected="--message with --json")
    talk = Conversation(
        open_speaker(name), system, max_new_tokens, Sampling(temperature, top_p, seed)
    )
    if message is not None:
        answers: dict[str, Any] = talk.ask(message, compare is not None, show=not json)
        if json:
            print_json({"message": message, **answers})
        return
    for line in _lines():
        if line == "/new":
            talk.reset()
        else:
            talk.ask(line, compare is not None, show=True)


def _lines() -> Any:
    """Lines of the user, until an empty one or the end."""
    while True:
        sys.stderr.write("you> ")
        sys.stderr.flush()
        line = sys.stdin.readline().strip()
        if not line:
            sys.stderr.write("\n")
            return
        yield line
