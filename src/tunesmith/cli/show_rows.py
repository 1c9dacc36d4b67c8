"""What `tunesmith preview` prints: rows as the model sees them, what is trained standing out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from re import Pattern, compile, escape

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.text import Text

from tunesmith.runs.report.wording import count, percent, plural, printable

TRAINED = "bold #00210f on #5fd787"
UNTRAINED = "dim"
SPECIAL = "magenta"
"""A special token that is not trained."""

TRAINED_SPECIAL = "bold #00210f on #00af5f"
"""Colours of their own, because many terminals show bold black as grey."""

MARKS, ASCII_MARKS = ("⟦", "⟧"), ("[[", "]]")
"""Stand around trained spans where there is no colour."""


@dataclass(frozen=True, slots=True)
class RowView:
    """One row as the model sees it.

    Attributes:
        source: The data file.
        number: Number of the row in it.
        pieces: The text in order, each piece with whether it is trained.
        num_tokens: Tokens of the row.
        num_trained: Tokens of it that are targets of the loss.
        special_tokens: Texts that are one special token each, to make them stand out.
    """

    source: str
    number: int
    pieces: Sequence[tuple[str, bool]]
    num_tokens: int
    num_trained: int
    special_tokens: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        share = self.num_trained / self.num_tokens if self.num_tokens else 0.0
        place = Text(f"{printable(self.source)}:{self.number}", "bold")
        counts = f"  {plural(self.num_tokens, 'token')}, {count(self.num_trained)} trained"
        yield place.append(f"{counts} ({percent(share)})", "not bold dim")
        coloured = is_coloured(console)
        text = self._coloured() if coloured else self._marked(options)
        if text.plain.endswith("\n"):
            text.right_crop(1)
        yield Padding(text, (0, 0, 1, 2))

    def _coloured(self) -> Text:
        special, text = _any_of(self.special_tokens), Text()
        for piece, trained in self.pieces:
            for part, is_special in _split(_visible(piece), special):
                styles = (TRAINED, TRAINED_SPECIAL) if trained else (UNTRAINED, SPECIAL)
                text.append(part, styles[is_special])
        return text

    def _marked(self, options: ConsoleOptions) -> Text:
        opening, closing = ASCII_MARKS if options.ascii_only else MARKS
        text, inside = Text(), False
        for piece, trained in self.pieces:
            if trained != inside:
                text.append(opening if trained else closing)
            text.append(_visible(piece))
            inside = trained
        return text.append(closing) if inside else text


def is_coloured(console: Console) -> bool:
    """Whether the console shows colours: it is a terminal and NO_COLOR is not set."""
    return console.color_system is not None and not console.no_color


def preview(rows: Sequence[RowView]) -> RenderableType:
    """Rows as the model sees them, under a legend; the sum of tokens below."""
    tokens = sum(row.num_tokens for row in rows)
    trained = sum(row.num_trained for row in rows)
    share = trained / tokens if tokens else 0.0
    total = f"{plural(len(rows), 'row')}: {plural(tokens, 'token')}, {count(trained)} trained"
    return Group(Legend(), *rows, Text(f"{total} ({percent(share)})", "bold"))


class Legend:
    """Says what the colours, or the marks, of a preview mean."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if is_coloured(console):
            yield Text.assemble(
                (" trained ", TRAINED),
                "  ",
                (" not trained ", UNTRAINED),
                "  ",
                ("special token", SPECIAL),
                ("  \\n = newline", UNTRAINED),
                "\n",
            )
        else:
            opening, closing = ASCII_MARKS if options.ascii_only else MARKS
            yield Text(f"{opening}trained{closing}  all else is not trained  \\n = newline\n")


def _visible(piece: str) -> str:
    """The text with newlines both shown and made, and other control characters shown."""
    return printable(piece).replace("\n", "\\n\n")


def _any_of(special_tokens: Sequence[str]) -> Pattern[str] | None:
    longest_first = sorted(filter(None, special_tokens), key=len, reverse=True)
    return compile("|".join(map(escape, longest_first))) if longest_first else None


def _split(text: str, special: Pattern[str] | None) -> Iterator[tuple[str, bool]]:
    """The text in parts, each with whether it is a special token."""
    at = 0
    for match in special.finditer(text) if special else ():
        if match.start() > at:
            yield text[at : match.start()], False
        yield match.group(), True
        at = match.end()
    if at < len(text):
        yield text[at:], False
