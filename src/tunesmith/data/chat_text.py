"""Conversations as text, written by the tokenizer's own chat template.

transformers renders templates with jinja2's ImmutableSandboxedEnvironment: a template is somebody
else's program, and must not reach past its own text.
"""

import json
from collections.abc import Iterable

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from tunesmith.data.row import Conversation, Message, RowProblem, show

SKIP_HINT = "use a base whose template writes it, or set data.on_bad_row: skip"


class ChatText:
    """Renders conversations and checks that the template left nothing out.

    Args:
        tokenizer: With a chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def whole(self, conversation: Conversation) -> str:
        """All turns."""
        return self._render(conversation, len(conversation.messages), False)

    def prompt(self, conversation: Conversation, end: int) -> str:
        """The first `end` turns and the opening of an answer: what inference starts from."""
        return self._render(conversation, end, True)

    def closed(self, conversation: Conversation, end: int) -> str:
        """The first `end` turns alone."""
        return self._render(conversation, end, False)

    def _render(self, conversation: Conversation, end: int, opened: bool) -> str:
        """Raises RowProblem where the template refuses the turns."""
        messages = [message.as_dict() for message in conversation.messages[:end]]
        try:
            return self._tokenizer.apply_chat_template(
                messages,
                tools=list(conversation.tools) or None,
                tokenize=False,
                add_generation_prompt=opened,
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise RowProblem(
                f"turns that the chat template refuses ({show(str(error), 200)})",
                "turns that the base's chat template can write",
                "see the model card of the base for the roles and orders it knows",
            ) from error


def check_nothing_lost(conversation: Conversation, text: str, answers: Iterable[int]) -> None:
    """Checks that the rendered text holds what the row says.

    Args:
        conversation: The row.
        text: All its turns, rendered.
        answers: Indexes of the assistant messages that must be there in full. Others may be
            shortened: some templates leave the reasoning of earlier turns out.

    Raises:
        RowProblem: The template left out a message, a tool call or a tool.
    """
    in_full = set(answers)
    for index, message in enumerate(conversation.messages):
        what = f"the {message.role} message {index + 1}"
        if message.role in ("system", "user") or index in in_full:
            _require(message.content, text, what)
        if message.role == "tool":
            _require_either((message.content, _quoted(message.content)), text, what)
        if index in in_full:
            _require(message.reasoning, text, f"the reasoning of {what}")
            _check_calls(message, text, what)
    for tool in conversation.tools:
        name = tool["function"]["name"]
        _require(name, text, f"the tool {show(name)}")


def _check_calls(message: Message, text: str, what: str) -> None:
    """Raises when the name of a called tool is not in the text."""
    for call in message.tool_calls:
        name = call["function"]["name"]
        _require(name, text, f"the call of {show(name)} in {what}")


def _quoted(content: str) -> str:
    """The content as `tojson` writes it: some templates put a tool's answer into JSON."""
    return json.dumps(content, ensure_ascii=False)[1:-1]


def _require(part: str, text: str, what: str) -> None:
    """Raises when `part` is not in `text`, however the template spaces it."""
    _require_either((part,), text, what)


def _require_either(parts: tuple[str, ...], text: str, what: str) -> None:
    """Raises when none of `parts` is in `text`, however the template spaces it."""
    if any(part.strip() in text for part in parts):
        return
    close = "".join(text.split())
    if any("".join(part.split()) in close for part in parts):
        return
    raise RowProblem(
        f"a chat template that leaves out {what}", "all that the row says in the text", SKIP_HINT
    )
