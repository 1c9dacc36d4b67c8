"""Conversations as text, written by the tokenizer's own chat template.

transformers renders templates with jinja2's ImmutableSandboxedEnvironment: a template is somebody
else's program, and must not reach past its own text.
"""

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from tunesmith.data.row import Conversation, Message, RowProblem, show

LAST_HINT = "set data.train_on: last, which trains the last answer of each row alone"
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
        tools = list(conversation.tools) or None
        try:
            try:
                return self._apply(messages, tools, opened)
            except TypeError:
                # Some templates add the arguments of a call to a text: they want JSON, not objects.
                return self._apply(_with_json_arguments(messages), tools, opened)
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise RowProblem(
                f"turns that the chat template refuses ({show(str(error), 200)})",
                "turns that the base's chat template can write",
                "see the model card of the base for the roles and orders it knows",
            ) from error

    def _apply(self, messages: list[dict], tools: list[dict] | None, opened: bool) -> str:
        return self._tokenizer.apply_chat_template(
            messages, tools=tools, tokenize=False, add_generation_prompt=opened
        )


def _with_json_arguments(messages: list[dict]) -> list[dict]:
    """The messages with the arguments of tool calls as JSON text."""

    def text_call(call: dict) -> dict[str, Any]:
        arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        return {**call, "function": {**call["function"], "arguments": arguments}}

    return [
        {**message, "tool_calls": [text_call(call) for call in message["tool_calls"]]}
        if "tool_calls" in message
        else message
        for message in messages
    ]


def check_nothing_lost(conversation: Conversation, text: str, answers: Mapping[int, str]) -> None:
    """Checks that the rendered text holds what the row says.

    Args:
        conversation: The row.
        text: All its turns, rendered.
        answers: By index, the text of the assistant messages that must be there in full, each cut
            out where it stands. Others may be shortened: some templates leave the reasoning of
            earlier turns out.

    Raises:
        RowProblem: The template left out a message, a tool call or a tool.
    """
    for index, message in enumerate(conversation.messages):
        what = f"the {message.role} message {index + 1}"
        if message.role == "tool":
            _require((message.content, _quoted(message.content)), text, what)
        elif message.role != "assistant":
            _require((message.content,), text, what)
        elif index in answers:
            _check_answer(message, answers[index], what)
    for tool in conversation.tools:
        name = tool["function"]["name"]
        _require((name,), text, f"the tool {show(name)}")


def _check_answer(message: Message, text: str, what: str) -> None:
    """Raises when an answer that is trained is not there in full."""
    _require((message.content,), text, what)
    _require((message.reasoning,), text, f"the reasoning of {what}")
    for call in message.tool_calls:
        name = call["function"]["name"]
        _require((name,), text, f"the call of {show(name)} in {what}")


def _quoted(content: str) -> str:
    """The content as `tojson` writes it: some templates put a tool's answer into JSON."""
    return json.dumps(content, ensure_ascii=False)[1:-1]


def _require(parts: tuple[str, ...], text: str, what: str) -> None:
    """Raises when none of `parts` is in `text`, however the template spaces it."""
    if any(part.strip() in text for part in parts):
        return
    close = "".join(text.split())
    if any("".join(part.split()) in close for part in parts):
        return
    raise RowProblem(
        f"a chat template that leaves out {what}", "all that the row says in the text", SKIP_HINT
    )
