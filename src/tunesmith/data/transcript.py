"""Conversations written as one text, `Human: ...` and `Assistant: ...` between empty lines.

So are Anthropic's HH ("Training a Helpful and Harmless Assistant", arXiv:2204.05862) and what
follows it.
"""

import re

from tunesmith.data.row import Message, RowProblem, show

ROLES = {"Human": "user", "Assistant": "assistant"}
_BEGINS = re.compile(r"\s*Human:")
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def is_transcript(text: str) -> bool:
    """Whether a text begins with a turn and has a second one."""
    return bool(_BEGINS.match(text)) and len(_TURN.findall(text.lstrip())) > 1


def read_transcript(text: str, what: str) -> tuple[Message, ...]:
    """The turns, without the white space around each.

    An `Assistant:` at the end with nothing behind it is none of them: it ends a prompt.

    Args:
        text: A transcript; see `is_transcript`.
        what: The key it stands in, for messages.

    Raises:
        RowProblem: A turn is empty.
    """
    _, *pieces = _TURN.split(text.strip())
    turns = [
        Message(ROLES[name], said.strip())
        for name, said in zip(pieces[::2], pieces[1::2], strict=True)
    ]
    if turns[-1].role == "assistant" and not turns[-1].content:
        turns.pop()
    for number, turn in enumerate(turns, 1):
        if not turn.content:
            raise RowProblem(f"{what}, turn {number}: nothing said", "a text", show(text))
    return tuple(turns)
