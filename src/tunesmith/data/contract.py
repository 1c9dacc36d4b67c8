"""The token contract: what is checked about the examples before the first step.

Each check is computed from the tokens on disk, not from what the encoder believes it did.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tunesmith.data import shapes
from tunesmith.data.chat_text import TRAINING_DAY
from tunesmith.data.prepared import Columns, Prepared
from tunesmith.data.reading import read_source
from tunesmith.data.row import Content, Conversation, Preference, answered, ignore, place
from tunesmith.data.template import Renderer
from tunesmith.errors import DataError

STOP, BOS, PREFIX, TRAINED = "stop token", "one BOS", "prompt parity", "trained rows"
READ = "token that is read"
FATAL = frozenset({STOP, BOS, PREFIX, TRAINED, READ})
"""Checks that end the run when they fail; the others warn."""

PARITY_ROWS = 200
PARITY_WITHIN = 10_000
"""Parity is checked again on PARITY_ROWS, spread over the first PARITY_WITHIN rows of a file, so
that a long file need not be read twice. Every row was checked when it was encoded."""

MAX_LISTED = 10


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was checked.
        ok: Whether it holds.
        figure: The number behind it, a share between 0 and 1 or a count.
        says: The same in words, with the places where it does not hold.
    """

    name: str
    ok: bool
    figure: str | float | int
    says: str


def check(train: Prepared, evaluation: Prepared | None, renderer: Renderer) -> list[Check]:
    """Checks the examples of a run.

    Args:
        train: What is trained on.
        evaluation: Held-out rows, or None.
        renderer: That encoded both.

    Returns:
        The checks, the fatal ones first. `require` turns a failed fatal one into an error.
    """
    return [
        _stop_token(train, renderer),
        _one_bos(train, renderer),
        _parity(train, renderer),
        _trained_rows(train),
        _begins(train, renderer),
        _day(renderer),
        _share_trained(train),
        _lengths(train, renderer),
        _skipped(train),
        _apart(train, evaluation),
        _duplicates(train),
    ]


def check_read(
    train: Prepared, evaluation: Prepared | None, renderer: Renderer, pad_id: int
) -> list[Check]:
    """Checks the examples of a run that reads sequences as a whole, and trains no token of them.

    No answer must end, begin as inference does, or carry a loss; instead, each sequence must end
    with the token whose state the head reads, for us and for transformers alike.

    Args:
        train: What is trained on.
        evaluation: Held-out rows, or None.
        renderer: That encoded both.
        pad_id: What transformers takes for padding.
    """
    return [
        _read_token(train, pad_id),
        _one_bos(train, renderer),
        _begins(train, renderer),
        _day(renderer),
        _lengths(train, renderer),
        _skipped(train),
        _apart(train, evaluation),
        _duplicates(train),
    ]


def require(checks: Sequence[Check]) -> None:
    """Raises when a fatal check failed.

    Raises:
        DataError: Names the check and what it says.
    """
    for one in checks:
        if not one.ok and one.name in FATAL:
            raise DataError(
                f"token contract, {one.name}",
                got=one.says,
                expected="the contract to hold for every row",
                hint="mend or remove the rows that it names",
            )


def _stop_token(train: Prepared, renderer: Renderer) -> Check:
    """The last trained token of each example ends it, unless the example was cut."""
    stops = np.fromiter(renderer.stop_ids, dtype=np.int32)
    wrong: list[int] = []
    whole = cut = 0
    for columns in train.columns():
        last = _last_trained(columns)
        # With train_on: all what the template writes behind the stop token is trained too.
        is_stop = np.isin(columns.input_ids, stops) & columns.trained
        ends = is_stop if renderer.train_on != "all" else _carried(is_stop, columns.offsets)
        fine = (last >= 0) & ends[np.maximum(last, 0)]
        whole += int((~columns.open_end).sum())
        cut += int(columns.open_end.sum())
        wrong += columns.example[~fine & ~columns.open_end].tolist()
    share = 1.0 - len(wrong) / whole if whole else 1.0
    what = "examples" if whole + cut == len(train) else "sequences"
    says = f"{share:.1%} of {whole} {what} end with a trained stop token"
    says += f"; {cut} cut ones cannot" if cut else ""
    return Check(STOP, not wrong, share, says + _listed(train, wrong))


def _read_token(train: Prepared, pad_id: int) -> Check:
    """The last token of each sequence is none that transformers would take for padding."""
    wrong: list[int] = []
    for columns in train.columns():
        last = columns.input_ids[columns.offsets[1:] - 1]
        wrong += columns.example[last == pad_id].tolist()
    says = f"{len(wrong)} sequences end with padding, before which transformers would read"
    return Check(READ, not wrong, len(wrong), says + _listed(train, wrong))


def _carried(marks: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """True from the first mark of an example to its end."""
    total = np.concatenate([[0], np.cumsum(marks)])
    before = np.repeat(total[offsets[:-1]], np.diff(offsets))
    return total[1:] > before


def _last_trained(columns: Columns) -> np.ndarray:
    """(N,) index in the flat arrays of each example's last trained token, -1 where none is."""
    at = np.flatnonzero(columns.trained)
    found = np.searchsorted(at, columns.offsets[1:]) - 1
    last = at[np.maximum(found, 0)] if len(at) else np.full(len(found), -1)
    return np.where((found >= 0) & (last >= columns.offsets[:-1]), last, -1)


def _one_bos(train: Prepared, renderer: Renderer) -> Check:
    """No example begins with BOS twice."""
    bos = renderer.tokenizer.bos_token_id
    wrong: list[int] = []
    for columns in train.columns() if bos is not None else ():
        first = columns.offsets[:-1]
        second = np.minimum(first + 1, columns.offsets[1:] - 1)
        ids = columns.input_ids
        double = (ids[first] == bos) & (ids[second] == bos) & (second > first)
        wrong += columns.example[double].tolist()
    says = f"{len(wrong)} examples begin with BOS twice"
    return Check(BOS, not wrong, len(wrong), says + _listed(train, wrong))


def _begins(train: Prepared, renderer: Renderer) -> Check:
    """Each example begins with the BOS that the tokenizer puts before any text.

    Inference renders chats as training does, so both agree; but the base may never have seen a text
    without it, and some programs add it to what they serve.
    """
    wrong: list[int] = []
    for columns in train.columns() if renderer.bos else ():
        first = columns.input_ids[columns.offsets[:-1]]
        lacks = (first != renderer.bos[0]) & ~columns.open_start
        wrong += columns.example[lacks].tolist()
    says = f"{len(wrong)} examples lack the BOS that the tokenizer itself adds"
    says += ": the chat template leaves it out" if wrong else ""
    return Check("BOS first", not wrong, len(wrong), says)


def _day(renderer: Renderer) -> Check:
    """Whether the chat template writes today's date, which no example can hold."""
    if not renderer.writes_day:
        return Check("no date", True, 0, "the chat template writes no date")
    says = f"the chat template writes today's date; every example has {TRAINING_DAY} instead"
    return Check("no date", False, 1, says)


def _parity(train: Prepared, renderer: Renderer) -> Check:
    """What inference sees is a prefix of what was trained on, of every sequence."""
    wrong: list[int] = []
    compared = 0
    for index, asked in _sample(train):
        compared += 1
        prompt = np.asarray(renderer.prompt(asked), dtype=np.int32)
        sequences = [one.input_ids for one in train[index].sequences()]
        if not all(np.array_equal(ids[: len(prompt)], prompt[: len(ids)]) for ids in sequences):
            wrong.append(index)
    share = 1.0 - len(wrong) / compared if compared else 1.0
    says = f"{share:.1%} of {compared} examples begin with the prompt as inference renders it"
    return Check(PREFIX, not wrong, share, says + _listed(train, wrong))


def _sample(train: Prepared) -> Iterator[tuple[int, Conversation]]:
    """Yields (index, what was asked) of rows with answers, spread over the start of each file."""
    for number, file in enumerate(train.files):
        # The first phrasing of each row is the one that reading it gives.
        own = np.flatnonzero(train.begins & (train.sources == number))
        near = own[train.row_numbers[own] <= PARITY_WITHIN]
        quota = max(1, PARITY_ROWS // len(train.files))
        spread = np.unique(np.linspace(0, len(near) - 1, quota).astype(int))
        chosen = near[spread[spread >= 0]]
        wanted = {int(train.row_numbers[index]): int(index) for index in chosen}
        shape = train.counts.shapes.get(str(file.path))
        rows = read_source(file, ignore, shapes.names(), shape)
        for row in rows if wanted else ():
            index = wanted.pop(row.number, None)
            asked = None if index is None else _asked(row.content)
            if asked is not None:
                yield index, asked
            if not wanted:
                break


def _asked(content: Content) -> Conversation | None:
    """The prompt of a row, or a conversation that ends with the answer to it; None for a text."""
    said = content.prompt if isinstance(content, Preference) else answered(content)
    return said if isinstance(said, Conversation) else None


def _trained_rows(train: Prepared) -> Check:
    """Every example has a token to train on."""
    wrong = np.flatnonzero(train.num_trained == 0).tolist()
    says = f"{len(wrong)} examples without a token to train on"
    return Check(TRAINED, not wrong, len(wrong), says + _listed(train, wrong))


def _share_trained(train: Prepared) -> Check:
    """How much of the tokens carries loss."""
    tokens, trained = int(train.lengths.sum()), int(train.num_trained.sum())
    share = trained / tokens
    return Check("share trained", trained > 0, share, f"{trained} of {tokens} tokens carry loss")


def _lengths(train: Prepared, renderer: Renderer) -> Check:
    """Rows that were longer than max_tokens, and what became of them."""
    dropped, truncated = train.counts.dropped, train.counts.truncated
    says = f"beyond {renderer.max_tokens} tokens: {dropped} rows dropped, {truncated} truncated"
    if cuts := train.counts.cuts:
        says += f"; documents cut in two {cuts} times, without losing a token"
    return Check("lengths", not dropped and not truncated, dropped + truncated, says)


def _skipped(train: Prepared) -> Check:
    """Bad rows that were left out."""
    skipped = train.counts.skipped
    listed = [f"{place(file, row)} ({text})" for file, row, text in train.problems[:3]]
    says = f"{skipped} bad rows skipped" + (f": {'; '.join(listed)}" if listed else "")
    return Check("bad rows", skipped == 0, skipped, says)


def _apart(train: Prepared, evaluation: Prepared | None) -> Check:
    """No held-out example is trained on."""
    name = "held-out rows apart"
    if evaluation is None:
        return Check(name, True, 0, "no held-out rows")
    shared = np.flatnonzero(np.isin(evaluation.fingerprints, train.fingerprints)).tolist()
    says = f"{len(shared)} of {len(evaluation)} held-out examples are also trained on"
    return Check(name, not shared, len(shared), says + _listed(evaluation, shared))


def _duplicates(train: Prepared) -> Check:
    """Examples that stand in the training data more than once; a figure, not a fault."""
    count = len(train) - len(np.unique(train.fingerprints))
    return Check("duplicates", True, count, f"{count} examples repeat an earlier one")


def _listed(prepared: Prepared, indexes: Sequence[int]) -> str:
    """The places of some examples, for the end of a sentence."""
    if not indexes:
        return ""
    shown = [place(*prepared.place(index)) for index in indexes[:MAX_LISTED]]
    more = len(indexes) - len(shown)
    return f": {', '.join(shown)}" + (f" and {more} more" if more else "")
