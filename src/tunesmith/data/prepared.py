"""Prepared examples: tokens on disk, memory-mapped, with a small index in memory.

One Arrow IPC file holds the tokens, one JSON file beside it the counts and the hash of the first.
The JSON is written last, so a pair without it does not exist.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from tunesmith.data.example import Example
from tunesmith.data.section import Source

SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("trained", pa.list_(pa.bool_())),
        ("prompt_tokens", pa.int32()),
        ("source", pa.int32()),
        ("row", pa.int32()),
        ("truncated", pa.bool_()),
        ("num_trained", pa.int32()),
        ("fingerprint", pa.int64()),
        ("parts", pa.list_(pa.int32())),
        ("numbers", pa.list_(pa.float32())),
        ("weights", pa.list_(pa.float32())),
        ("begins", pa.bool_()),
        ("open_start", pa.bool_()),
        ("open_end", pa.bool_()),
    ]
)
"""`source` is the index of the file; `fingerprint` a hash of the token ids; the names of `numbers`
stand in the facts; `weights` are of the trained tokens, none where each is 1; `begins` is false for
a further phrasing of the row before."""

WEIGHTS = "weights"
"""Of the numbers of an example: how much the loss of each trained token counts. Present where any
example of the data set has another weight than 1."""

Numbers = Callable[[int], np.ndarray]
"""Gives the float32 numbers of the example with this index."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows.

    Attributes:
        rows: Examples made; where a file has several phrasings, of the first one.
        dropped: Rows left out for their length.
        truncated: Rows cut to max_tokens; they are among `rows`.
        cuts: Times that a document was cut in two, every token of it kept.
        skipped: Bad rows left out.
        tokens: Tokens of all examples.
        tokens_trained: Tokens that carry loss.
        shapes: Row shape of each file.
        sha256: SHA-256 of each file.
    """

    rows: int = 0
    dropped: int = 0
    truncated: int = 0
    cuts: int = 0
    skipped: int = 0
    tokens: int = 0
    tokens_trained: int = 0
    shapes: dict[str, str] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Columns:
    """The sequences of consecutive examples as flat arrays, for checks over all of them.

    Attributes:
        example: (S,) index of the example that each sequence belongs to.
        offsets: (S + 1,) where each begins in the flat arrays.
        input_ids: (tokens,) int32.
        trained: (tokens,) bool.
        open_start: (S,) bool, whether it begins inside a document.
        open_end: (S,) bool, whether it ends before what was written there did.
    """

    example: np.ndarray
    offsets: np.ndarray
    input_ids: np.ndarray
    trained: np.ndarray
    open_start: np.ndarray
    open_end: np.ndarray


class Prepared(Sequence[Example]):
    """Examples of one or more files, in the order of the files and their rows.

    Attributes:
        files: The data files, with the weight of each.
        key: A name made of all that decides the examples.
        rows_per_file: Examples of each file, the phrasings of a row counted once.
        sources: (N,) int32, index of the file of each example.
        begins: (N,) bool, False for an example that is the one before it in another phrasing.
        phrasings: Where the phrasings of each row begin, (rows + 1,); None without several.
        lengths: (N,) int32, tokens of each example.
        num_sequences: (N,) int32, sequences of each.
        num_trained: (N,) int32, trained tokens of each.
        prompt_tokens: (N,) int32, tokens before the last answer of each; 0 for a text.
        fingerprints: (N,) int64; equal for examples with equal token ids.
        counts: What became of the rows.
        problems: (file, row number, text) of skipped rows, the first 100.
    """

    def __init__(self, files: Sequence[Source], tokens: Path, facts: dict) -> None:
        self.files, self.key = tuple(files), tokens.stem
        self.counts = Counts(**facts["counts"])
        self.problems = [(file, row, text) for file, row, text in facts["problems"]]
        self._names: list[str] = facts["numbers"]
        self._weighted: bool = facts["weighted"]
        self._added: dict[str, Numbers] = {}
        table = pa.ipc.open_file(pa.memory_map(str(tokens)))
        self._batches = [table.get_batch(i) for i in range(table.num_record_batches)]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self._offsets = [batch["input_ids"].offsets.to_numpy() for batch in self._batches]
        self.lengths = _joined([np.diff(offsets) for offsets in self._offsets])
        parts = [np.diff(batch["parts"].offsets.to_numpy()) for batch in self._batches]
        self.num_sequences = np.maximum(_joined(parts), 1)  # One sequence is not listed.
        self.num_trained = self._column("num_trained")
        self.prompt_tokens = self._column("prompt_tokens")
        self.fingerprints = self._column("fingerprint")
        self.row_numbers = self._column("row")
        self.sources = self._column("source")
        self.begins = _joined([_bools(batch, "begins") for batch in self._batches])
        per_file = np.bincount(self.sources[self.begins], minlength=len(self.files))
        self.rows_per_file = tuple(int(count) for count in per_file)
        self.phrasings = None
        if not self.begins.all():
            self.phrasings = np.append(np.flatnonzero(self.begins), len(self))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        """The example at `index`, with what was added to it; negative ones count from the end.

        Raises:
            LookupError: What was added has nothing for this example; `as_read` has it.
        """
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        example = self.as_read(at)
        added = {name: give(at) for name, give in self._added.items()}
        return replace(example, numbers={**example.numbers, **added}) if added else example

    def as_read(self, at: int) -> Example:
        """The example with the numbers that came with its row, and no others."""
        number = int(np.searchsorted(self._starts, at, side="right")) - 1
        batch, offsets = self._batches[number], self._offsets[number]
        inside = at - int(self._starts[number])
        start, stop = int(offsets[inside]), int(offsets[inside + 1])
        ids = batch["input_ids"].values.slice(start, stop - start).to_numpy()
        trained = batch["trained"].values.slice(start, stop - start)
        parts = tuple(batch["parts"][inside].as_py())
        told = np.array(batch["numbers"][inside].as_py(), dtype=np.float32)
        numbers = dict(zip(self._names, told.reshape(-1, 1), strict=True))
        if self._weighted:
            weights = np.array(batch["weights"][inside].as_py(), dtype=np.float32)
            count = int(batch["num_trained"][inside].as_py())
            numbers[WEIGHTS] = weights if len(weights) else np.ones(count, dtype=np.float32)
        source, row = self.place(at)
        return Example(ids, trained.to_numpy(zero_copy_only=False), source, row, parts, numbers)

    def add_numbers(self, name: str, give: Numbers) -> None:
        """Let every example come with further numbers, such as what the base thinks of it."""
        self._added[name] = give

    @property
    def weights(self) -> tuple[float, ...]:
        """Weight of each file."""
        return tuple(file.weight for file in self.files)

    def place(self, index: int) -> tuple[str, int]:
        """File and row number of an example."""
        return self.files[self.sources[index]].path, int(self.row_numbers[index])

    def columns(self) -> Iterator[Columns]:
        """Yields all examples, some hundreds at a time."""
        for start, batch, offsets in zip(self._starts, self._batches, self._offsets, strict=False):
            parts = batch["parts"]
            several = np.diff(parts.offsets.to_numpy())
            lengths = np.diff(offsets).astype(np.int64)
            if several.any():
                lengths = parts.values.to_numpy().astype(np.int64)
            example = np.repeat(np.arange(batch.num_rows), np.maximum(several, 1))
            yield Columns(
                int(start) + example,
                np.concatenate([[0], np.cumsum(lengths)]) + int(offsets[0]),
                batch["input_ids"].values.to_numpy(),
                batch["trained"].values.to_numpy(zero_copy_only=False),
                _bools(batch, "open_start")[example],
                (_bools(batch, "truncated") | _bools(batch, "open_end"))[example],
            )

    def _column(self, name: str) -> np.ndarray:
        return _joined([batch[name].to_numpy() for batch in self._batches])


def open_prepared(files: Sequence[Source], tokens: Path) -> Prepared | None:
    """What was prepared at `tokens`; None when it is not there, or not as it was written."""
    facts_path = tokens.with_suffix(".json")
    if not tokens.exists() or not facts_path.exists():
        return None
    try:
        facts = json.loads(facts_path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    if not isinstance(facts, dict) or facts.get("sha256") != file_hash(tokens):
        return None
    return Prepared(files, tokens, facts)


def facts_of(
    counts: Counts,
    problems: list[tuple[str, int, str]],
    numbers: list[str],
    weighted: bool,
    tokens: Path,
) -> str:
    """The JSON beside the tokens."""
    facts = {
        "counts": asdict(counts),
        "problems": problems,
        "numbers": numbers,
        "weighted": weighted,
        "sha256": file_hash(tokens),
    }
    return json.dumps(facts, ensure_ascii=False)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bools(batch: pa.RecordBatch, name: str) -> np.ndarray:
    return batch[name].to_numpy(zero_copy_only=False)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """The parts end to end; the file has at least one."""
    return np.concatenate(parts)
