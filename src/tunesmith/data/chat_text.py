"""Conversations as text, written by the tokenizer's own chat template."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tunesmith.data.row import Conversation, Message, RowProblem, show
from tunesmith.data.sandbox import MAX_ROW_BYTES, Answer, Asked, Cut, Program, Refused, TooLarge
from tunesmith.errors import ModelError

LAST_HINT = "set data.train_on: last, which trains the last answer of each row alone"
SKIP_HINT = "use a base whose template writes it, or set data.on_bad_row: skip"

TRAINING_DAY = "2026-01-01"
"""The day that templates are told which write today's date. With the true one the examples, and so
every bit of a run, would depend on the day it was started, and a resumed run on both its days."""


def program(
    tokenizer: PreTrainedTokenizerBase, tools: bool = False, now: str | None = None
) -> Program:
    """The chat template of a tokenizer, ready to render in its own process.

    Args:
        tokenizer: With a chat template.
        tools: Whether tools are given: some tokenizers have another template for that.
        now: The day that the template is told; None for today.

    Raises:
        ModelError: It has several templates and none by default, or one that is too long.
    """
    owner = tokenizer.name_or_path or "the base"
    try:
        source = tokenizer.get_chat_template(tools=[{}] if tools else None)
    except ValueError as error:
        raise ModelError(
            f"chat template of {owner}", got=f"none to choose ({error})", expected="a default one"
        ) from error
    return Program(source, dict(tokenizer.special_tokens_map), now, owner)


@dataclass(frozen=True, slots=True)
class _Texts:
    """A conversation and what was rendered of it."""

    row: Conversation
    cuts: Sequence[Cut]
    answer: Answer


class ChatText:
    """Renders conversations and checks that the template left nothing out.

    Args:
        tokenizer: With a chat template.

    Raises:
        ModelError: As `program`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._programs = {tools: program(tokenizer, tools, TRAINING_DAY) for tools in (False, True)}
        self._held: dict[int, _Texts] = {}

    @property
    def writes_day(self) -> bool:
        """Whether the template asks for today's date; it is then told TRAINING_DAY."""
        return any("strftime_now" in one.source for one in self._programs.values())

    def whole(self, conversation: Conversation) -> str:
        """All turns."""
        return self._text(conversation, (len(conversation.messages), False))

    def prompt(self, conversation: Conversation, end: int) -> str:
        """The first `end` turns and the opening of an answer: what inference starts from."""
        return self._text(conversation, (end, True))

    def closed(self, conversation: Conversation, end: int) -> str:
        """The first `end` turns alone."""
        return self._text(conversation, (end, False))

    def look_ahead(self, wanted: Sequence[tuple[Conversation, Sequence[Cut]]]) -> None:
        """Render texts of several conversations at once, for the methods above to give out.

        A template that refuses some turns raises only when their text is asked for.

        Raises:
            ModelError: The template is none, or went beyond a limit.
        """
        self._held = {}
        for tools in (False, True):
            chosen = [pair for pair in wanted if bool(pair[0].tools) is tools]
            rows = [
                Asked([message.as_dict() for message in row.messages], row.tools, cuts)
                for row, cuts in chosen
            ]
            answers = self._programs[tools].render(rows) if rows else []
            for (row, cuts), answer in zip(chosen, answers, strict=True):
                self._held[id(row)] = _Texts(row, cuts, answer)

    def ensure(self, conversation: Conversation, cuts: Sequence[Cut]) -> None:
        """Render what is not there already of `cuts`, all at once."""
        held = self._held.get(id(conversation))
        if held is None or held.row is not conversation or not set(cuts) <= set(held.cuts):
            self.look_ahead([(conversation, cuts)])

    def _text(self, conversation: Conversation, cut: Cut) -> str:
        """A text of a conversation: rendered before, or now.

        Raises:
            RowProblem: The template refuses the turns.
        """
        self.ensure(conversation, [cut])
        held = self._held[id(conversation)]
        if isinstance(held.answer, Refused):
            raise RowProblem(
                f"turns that the chat template refuses ({show(held.answer.says, 200)})",
                "turns that the base's chat template can write",
                "see the model card of the base for the roles and orders it knows",
            )
        if isinstance(held.answer, TooLarge):
            limit = f"{MAX_ROW_BYTES // 2**20} MiB"
            raise RowProblem(f"a conversation of more than {limit}", f"at most {limit}")
        return held.answer[held.cuts.index(cut)]


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
        for argument in texts_in(call["function"]["arguments"]):
            # As it is, in JSON, in JSON that was quoted once more, or as Python would write it.
            once = _quoted(argument)
            forms = (argument, once, _quoted(once), repr(argument)[1:-1])
            _require(forms, text, f"{show(argument)} of the call of {show(name)} in {what}")


def texts_in(value: object) -> Iterator[str]:
    """Every text in nested lists and objects, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from texts_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_in(inner)


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
