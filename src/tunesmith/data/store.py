"""From data files to prepared examples, kept on disk.

What is kept is keyed by all that decides it: the bytes of the data, the tokenizer and template, the
options, and the code of this room. A change of any makes a new one; nothing stale is ever read.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

from tunesmith.data.encoded import UNWEIGHED, Encoded
from tunesmith.data.prepared import Prepared, open_prepared
from tunesmith.data.reading import read_source
from tunesmith.data.row import Content, OnBad, Row, RowProblem, ignore, refuse
from tunesmith.data.section import Source
from tunesmith.data.sources import sha256
from tunesmith.data.split import Part
from tunesmith.data.tally import Tally
from tunesmith.data.writer import ExampleWriter
from tunesmith.errors import DataError, TunesmithError

AHEAD_ROWS = 64
"""Rows that an encoder is told of at once."""

LIBRARIES = ("transformers", "tokenizers", "jinja2")
"""Their versions are part of the key: they decide the tokens too."""


class Encoder(Protocol):
    """Turns what a row says into tokens; `template.Renderer` is the one for sft."""

    @property
    def shapes(self) -> Collection[str]:
        """Names of the row shapes that it can read; others are refused, or never guessed."""

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the tokens."""

    def look_ahead(self, contents: Sequence[Content]) -> None:
        """Told what `encode` is asked for next, so that it can work on several rows at once."""

    def examples(self, content: Content) -> Sequence[Encoded]:
        """The examples of a row; RowProblem for a row that cannot be trained on.

        At least one, unless the encoder has `rest`, which is asked at the end of every file for the
        examples of rows that it has kept to lay them together: `rest() -> Sequence[Encoded]`.
        """


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """The choices of the recipe's `data` section that decide the examples."""

    max_tokens: int
    overlong: Literal["error", "drop", "truncate"] = "error"
    on_bad_row: Literal["error", "skip"] = "error"
    train_on: Literal["assistant", "last", "all"] = "assistant"
    part: Part | None = None
    """Which rows are used; None for all."""


def prepare(
    files: Sequence[Source],
    encoder: Encoder,
    options: PrepareOptions,
    cache_folder: Path,
    progress: Callable[[int], None] | None = None,
) -> Prepared:
    """Reads, checks and tokenises all rows, or opens what an equal call has left.

    Args:
        files: The data files; memory does not grow with their size beyond an index.
        encoder: Turns rows into tokens.
        options: Of the recipe; `max_tokens` and `train_on` as the encoder has them.
        cache_folder: Where the examples are kept; made when it is missing.
        progress: Called now and then with the number of rows read.

    Raises:
        DataError: A file or a row that cannot be used, or no row left.
        MachineError: The disk is full or cannot be written.
    """
    if not files:
        raise DataError("data.train", got="no files", expected="at least one data file")
    hashes = {str(file.path): sha256(file.path) for file in files}
    tokens = cache_folder / f"{_key(files, hashes, encoder, options)}.arrow"
    found = open_prepared(files, tokens)
    if found is None:
        _write(files, encoder, options, tokens, Tally(hashes, progress))
        found = open_prepared(files, tokens)
    if found is None:
        raise DataError(str(tokens), got="tokens that changed while written", expected="one writer")
    return found


def _write(
    files: Sequence[Source], encoder: Encoder, options: PrepareOptions, tokens: Path, tally: Tally
) -> None:
    """Encodes all rows into the file `tokens` and the facts beside it."""
    on_bad = refuse if options.on_bad_row == "error" else tally.skip
    with ExampleWriter(tokens) as writer:
        for index, file in enumerate(files):
            before = tally.rows
            rows = _read(file, index, encoder, options.part, on_bad)
            for row, phrasings in _examples(_announced(rows, encoder), encoder, on_bad):
                kept = [one for one in phrasings if not tally.is_overlong(row, one, options)]
                for number, encoded in enumerate(kept):
                    if number == 0:
                        tally.add(row, encoded)
                    writer.add(index, row.number, encoded, begins=number == 0)
            split = options.part is not None and index < options.part.files
            if tally.rows == before and tally.num_overlong == 0 and not split:
                raise _no_rows(str(file.path), tally)
        if not tally.rows and options.part and tally.num_overlong == 0:
            raise options.part.empty()
        tally.check_lengths(options)
        writer.commit(tally.counts(), tally.problems)


def _read(
    file: Source, index: int, encoder: Encoder, part: Part | None, on_bad: OnBad
) -> Iterator[Row]:
    """The rows of a file that are used."""
    if part is None or index >= part.files:
        return read_source(file, on_bad, encoder.shapes)
    # What cannot be read is on no side; it is counted with the rows that are trained on.
    return part.of(read_source(file, ignore if part.heldout else on_bad, encoder.shapes))


def _announced(rows: Iterator[Row], encoder: Encoder) -> Iterator[Row]:
    """The rows, each some time after the encoder was told of it.

    What reading raises waits until the rows before it are through, so that the first bad row of a
    file is the one that is named.
    """
    ended: TunesmithError | None = None
    while ended is None:
        held: list[Row] = []
        try:
            held.extend(islice(rows, AHEAD_ROWS))
        except TunesmithError as error:
            ended = error
        if not held and ended is None:
            return
        encoder.look_ahead([content for row in held for content in row.contents])
        yield from held
    raise ended


def _examples(
    rows: Iterator[Row], encoder: Encoder, on_bad: OnBad
) -> Iterator[tuple[Row, Sequence[Encoded]]]:
    """Each example, in all its phrasings, with the row that it comes from, or ends in."""
    row = None
    for row in rows:
        try:
            made = [encoder.examples(content) for content in row.contents]
            if any(len(one.weights) for each in made for one in each) and not _weighs(encoder):
                raise UNWEIGHED
            if row.others and any(len(each) != 1 for each in made):
                raise RowProblem("a row of several examples, with phrasings", "one example a row")
        except RowProblem as problem:
            on_bad(row.source, row.number, problem)
            continue
        if row.others:
            yield row, [each[0] for each in made]
        else:
            yield from ((row, [encoded]) for encoded in made[0])
    if row is not None and hasattr(encoder, "rest"):
        yield from ((row, [encoded]) for encoded in encoder.rest())


def _weighs(encoder: Encoder) -> bool:
    """Whether its method counts each token by the weight of its message."""
    return getattr(encoder, "weighs", False)


def _no_rows(source: str, tally: Tally) -> DataError:
    """The error for a file of which no row is left."""
    first = next((text for file, _, text in tally.problems if file == source), "")
    return DataError(
        source,
        got=f"no row that can be trained on: {tally.skipped} skipped, {tally.dropped} dropped",
        expected="at least one",
        hint=f"the first that was skipped: {first}" if first else "raise data.max_tokens",
    )


def _key(
    files: Sequence[Source], hashes: dict[str, str], encoder: Encoder, options: PrepareOptions
) -> str:
    """SHA-256 over all that decides the examples. The weights do not: they decide the order."""
    parts = {
        "files": [[hashes[str(file.path)], _reading(file)] for file in files],
        "encoder": encoder.fingerprint,
        "options": asdict(options),
        "libraries": {name: version(name) for name in LIBRARIES},
        "code": _code_version(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _reading(file: Source) -> dict:
    """All of a source that decides its examples."""
    return file.model_dump(exclude={"name", "weight"})


@cache
def _code_version() -> str:
    """SHA-256 over the source of this room, so that no one has to remember to raise a number."""
    room = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(room.rglob("*.py")):
        digest.update(file.relative_to(room).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
