"""Rows: what a record of a data file says, whatever its shape was.

`Row` is a record with its place; its content is one of `Content`. What is wrong with a record is a
`RowProblem`, which becomes a `DataError` where file and row number are known.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tunesmith.errors import DataError


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: system, user, assistant or tool.
        content: The text; empty only where `tool_calls` says something.
        tool_calls: Calls in OpenAI's form, arguments as a dict.
        name: Of the tool or the speaker, where the row gives one.
        tool_call_id: Which call a tool message answers.
        weight: How much the loss of an assistant turn counts: 0 for none; None is 1.
        reasoning: What the assistant thought before the answer, where the row keeps it apart.
    """

    role: str
    content: str
    tool_calls: tuple[dict, ...] = ()
    name: str | None = None
    tool_call_id: str | None = None
    weight: float | None = None
    reasoning: str = ""

    def as_dict(self) -> dict:
        """The message as a chat template takes it; keys without a value are left out."""
        extras = {
            "tool_calls": list(self.tool_calls),
            "name": self.name,
            "tool_call_id": self.tool_call_id,
            "reasoning_content": self.reasoning,
        }
        given = {key: value for key, value in extras.items() if value}
        return {"role": self.role, "content": self.content, **given}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, oldest first.

    Attributes:
        messages: At least a user and an assistant turn for training; see `turns.check_turns`.
        tools: Tools that the assistant may call, in OpenAI's form.
        kind: `completion` for a prompt and its completion, which a base without a chat template
            can be trained on too; `chat` for everything else.
        plain_prompt: The prompt for a base without a chat template, where it is more than the
            contents of the messages before the answer (Alpaca).
    """

    messages: tuple[Message, ...]
    tools: tuple[dict, ...] = ()
    kind: str = "chat"
    plain_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """A document: every token of it is trained."""

    text: str


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, of which one is better.

    Attributes:
        chosen: The prompt and the better answer. What the assistant says in the prompt has weight
            0, here and in `rejected`.
        rejected: The same prompt and the other answer, which differs.
        margin: How much better, at least 0 and in the units of the data; None where no one says.
    """

    chosen: Conversation
    rejected: Conversation
    margin: float | None = None

    @property
    def prompt(self) -> Conversation:
        """What both begin with, up to where an answer begins."""
        end = num_common(self.chosen.messages, self.rejected.messages)
        while end and self.chosen.messages[end - 1].role == "assistant":
            end -= 1
        return replace(self.chosen, messages=self.chosen.messages[:end])


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer that somebody found good or bad.

    Attributes:
        conversation: The prompt and the answer; earlier answers have weight 0.
        good: What they found.
    """

    conversation: Conversation
    good: bool


@dataclass(frozen=True, slots=True)
class Labelled:
    """Something to be read as a whole, with what it is.

    Attributes:
        content: The text or the turns.
        labels: Names of its classes, one or several; numbers are written out.
        value: The label as a number, where it is one.
    """

    content: Conversation | Text
    labels: tuple[str, ...]
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Related:
    """A text, and others that belong to it or do not.

    Attributes:
        anchor: What is looked for with: a question, a sentence.
        positive: What should be found.
        negatives: What looks alike and should not.
    """

    anchor: str
    positive: str
    negatives: tuple[str, ...] = ()


Content = Conversation | Text | Preference | Judged | Labelled | Related
"""What a row can say."""


def answered(content: Content) -> Conversation | Text:
    """What the model is to say by this row: of a preference, the chosen answer."""
    if isinstance(content, Preference):
        return content.chosen
    return content.conversation if isinstance(content, Judged) else content


@dataclass(frozen=True, slots=True)
class RawRow:
    """A record as it stands in the file: its number and its keys."""

    number: int
    value: dict


@dataclass(frozen=True, slots=True)
class Row:
    """A record that was understood.

    Attributes:
        content: What it says.
        source: Path of the file, as the recipe gives it.
        number: The line for JSONL, the index counted from 1 otherwise.
        raw: The record as it stood in the file; graders look into it.
        shape: Name of the shape it was read as.
        others: The same in other phrasings, where its file has several.
    """

    content: Content
    source: str
    number: int
    raw: dict
    shape: str = ""
    others: tuple[Content, ...] = ()

    @property
    def contents(self) -> tuple[Content, ...]:
        """What it says, in every phrasing."""
        return (self.content, *self.others)


class RowProblem(ValueError):
    """What is wrong with one row, before its place is known.

    Args:
        got: What the row has.
        expected: What would have been accepted.
        hint: One action that would mend it.
    """

    def __init__(self, got: str, expected: str = "", hint: str = "") -> None:
        self.got, self.expected, self.hint = got, expected, hint
        super().__init__(f"{got}; expected {expected}" if expected else got)

    def at(self, source: str, number: int) -> DataError:
        """The error for the user, with the place."""
        where = place(source, number)
        return DataError(where, got=self.got, expected=self.expected, hint=self.hint)


def num_common(first: Sequence[Message], second: Sequence[Message]) -> int:
    """How many messages both begin with."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(first), len(second)))


def place(source: str, number: int) -> str:
    """`file.jsonl:17`, or `file.csv: row 17` where the number is not a line."""
    return f"{source}:{number}" if source.endswith(".jsonl") else f"{source}: row {number}"


OnBad = Callable[[str, int, RowProblem], None]
"""What happens to a bad row, given file, number and problem: raise, or note it and return."""


def refuse(source: str, number: int, problem: RowProblem) -> None:
    """The default `OnBad`: a bad row is an error.

    Raises:
        DataError: Always.
    """
    raise problem.at(source, number) from problem


def ignore(source: str, number: int, problem: RowProblem) -> None:
    """An `OnBad` for whoever reads rows whose problems are dealt with elsewhere."""


def show(value: object, limit: int = 60) -> str:
    """A value of the user's file for a message, cut to `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
