"""Prepared examples on disk: what is kept, what is counted, what is an error."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tunesmith.data import store
from tunesmith.data.collate import collate
from tunesmith.data.encoded import Encoded, together
from tunesmith.data.row import Content, RowProblem
from tunesmith.data.section import Source
from tunesmith.data.shapes import ANSWERED
from tunesmith.data.store import PrepareOptions, prepare
from tunesmith.errors import DataError, MachineError


class Lengths:
    """An encoder for texts that are numbers: so many tokens, all but the first trained."""

    def __init__(self, name: str = "lengths") -> None:
        self.fingerprint = name
        self.shapes = ANSWERED
        self.calls = 0

    def look_ahead(self, contents: list) -> None:
        """Nothing to prepare."""

    def examples(self, content: Content) -> list[Encoded]:
        self.calls += 1
        if not content.text.isdecimal():
            raise RowProblem(f"{content.text}", "a number")
        ids = np.arange(int(content.text), dtype=np.int32)
        trained = np.ones(len(ids), dtype=bool)
        trained[0] = False
        return [Encoded(ids, trained, 1, False)]


OPTIONS = PrepareOptions(max_tokens=10)


@pytest.fixture
def texts(write_rows) -> Callable[..., Source]:
    """A source of texts."""

    def make(*texts: object, name: str = "rows.jsonl", **more: object) -> Source:
        path = write_rows([{"text": str(text)} for text in texts], name)
        return Source(path=str(path), **more)

    return make


def test_examples_come_back_as_they_were_encoded(texts, tmp_path: Path) -> None:
    source = texts(3, 5, 2)
    prepared = prepare([source], Lengths(), OPTIONS, tmp_path / "cache")
    assert len(prepared) == 3
    example = prepared[1]
    assert example.input_ids.tolist() == [0, 1, 2, 3, 4]
    assert example.input_ids.dtype == np.int32
    assert example.trained.tolist() == [False, True, True, True, True]
    assert (example.source, example.row) == (source.path, 2)
    assert prepared[-1].input_ids.tolist() == [0, 1]
    with pytest.raises(IndexError, match="example 3 of 3"):
        prepared[3]
    assert [len(example) for example in prepared] == [3, 5, 2]
    assert prepared.lengths.tolist() == [3, 5, 2]
    assert prepared.num_trained.tolist() == [2, 4, 1]


def test_several_batches_and_files_are_one_sequence(
    texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.data.writer.BATCH_ROWS", 2)
    files = [
        texts(1, 2, 3, 4, 5, name="a.jsonl"),
        texts(6, 7, name="b.jsonl", weight=2.5),
    ]
    prepared = prepare(files, Lengths(), OPTIONS, tmp_path / "cache")
    assert [len(example) for example in prepared] == [1, 2, 3, 4, 5, 6, 7]
    assert prepared.rows_per_file == (5, 2)
    assert prepared.weights == (1.0, 2.5)
    assert prepared.place(6) == (files[1].path, 2)
    starts = [int(columns.example[0]) for columns in prepared.columns()]
    assert starts == [0, 2, 4, 6]
    flat = np.concatenate([columns.input_ids for columns in prepared.columns()])
    assert flat.tolist() == [i for length in range(1, 8) for i in range(length)]


def test_the_counts_say_what_became_of_the_rows(texts, tmp_path: Path) -> None:
    source = texts(3, 50, "x", 4, "y")
    options = PrepareOptions(max_tokens=10, overlong="drop", on_bad_row="skip")
    prepared = prepare([source], Lengths(), options, tmp_path / "cache")
    counts = prepared.counts
    assert (counts.rows, counts.dropped, counts.truncated, counts.skipped) == (2, 1, 0, 2)
    assert (counts.tokens, counts.tokens_trained) == (7, 5)
    assert counts.shapes == {source.path: "text"}
    assert counts.sha256 == {source.path: store.sha256(source.path)}
    assert prepared.problems == [
        (source.path, 3, "x; expected a number"),
        (source.path, 5, "y; expected a number"),
    ]


def test_all_skipped_rows_are_counted_and_the_first_are_listed(texts, tmp_path: Path) -> None:
    source = texts(3, *["x"] * 150)
    options = PrepareOptions(max_tokens=10, on_bad_row="skip")
    prepared = prepare([source], Lengths(), options, tmp_path / "cache")
    assert prepared.counts.skipped == 150
    assert len(prepared.problems) == 100


def test_a_bad_row_is_an_error_by_default_and_leaves_nothing(texts, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:2: got x; expected a number"):
        prepare([texts(1, "x")], Lengths(), OPTIONS, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_broken_json_can_be_skipped(write_rows, tmp_path: Path) -> None:
    path = write_rows('{"text": "3"}\n{"text": \n{"text": "4"}\n')
    options = PrepareOptions(max_tokens=10, on_bad_row="skip")
    prepared = prepare([Source(path=str(path))], Lengths(), options, tmp_path / "cache")
    assert prepared.lengths.tolist() == [3, 4]
    assert prepared.row_numbers.tolist() == [1, 3]


def test_over_long_rows_are_an_error_that_names_them(texts, tmp_path: Path) -> None:
    source = texts(10, 11, *[20] * 12, 5)
    with pytest.raises(DataError, match=r"data\.max_tokens: got 13 rows with more than 10 ") as got:
        prepare([source], Lengths(), OPTIONS, tmp_path / "cache")
    assert f"{source.path}:2 (11), {source.path}:3 (20)" in got.value.got
    assert got.value.got.endswith(f"{source.path}:11 (20) and 3 more")
    assert got.value.hint.startswith("raise data.max_tokens to 20, or set data.overlong")


@pytest.mark.parametrize(
    ("rows", "options", "hint"),
    [
        (["x", "y"], {"on_bad_row": "skip"}, "the first that was skipped: x; expected a number"),
        ([99], {"overlong": "drop"}, "raise data.max_tokens"),
    ],
)
def test_a_file_of_which_nothing_is_left_is_an_error(
    texts, tmp_path: Path, rows: list, options: dict, hint: str
) -> None:
    with pytest.raises(DataError, match="got no row that can be trained on") as got:
        prepare([texts(*rows)], Lengths(), PrepareOptions(10, **options), tmp_path / "cache")
    assert got.value.hint == hint


def test_no_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.train: got no files"):
        prepare([], Lengths(), OPTIONS, tmp_path)


def test_what_was_prepared_is_opened_again(texts, tmp_path: Path) -> None:
    source, encoder = texts(3, 4), Lengths()
    for _ in range(2):
        prepared = prepare([source], encoder, OPTIONS, tmp_path / "cache")
    assert encoder.calls == 2
    assert prepared.lengths.tolist() == [3, 4]
    heavier = source.model_copy(update={"weight": 3.0})
    assert prepare([heavier], encoder, OPTIONS, tmp_path / "cache").weights == (3.0,)
    assert encoder.calls == 2


def test_a_change_of_anything_that_decides_the_tokens_prepares_anew(
    texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, source = tmp_path / "cache", texts(3, 4)

    def calls(source: Source, encoder: Lengths, options: PrepareOptions = OPTIONS) -> int:
        prepare([source], encoder, options, cache)
        return encoder.calls

    assert calls(source, Lengths()) == 2
    assert calls(source, Lengths("another tokenizer")) == 2
    for change in (
        {"max_tokens": 9},
        {"overlong": "drop"},
        {"on_bad_row": "skip"},
        {"train_on": "last"},
    ):
        options = PrepareOptions(**({"max_tokens": 10} | change))
        assert calls(source, Lengths(), options) == 2
    assert calls(source.model_copy(update={"format": "text"}), Lengths()) == 2
    monkeypatch.setattr(store, "_code_version", lambda: "other code")
    assert calls(source, Lengths()) == 2
    Path(source.path).write_text('{"text": "3"}\n{"text": "5"}\n')
    assert prepare([source], Lengths(), OPTIONS, cache).lengths.tolist() == [3, 5]


@pytest.mark.parametrize("damage", ["flip", "cut", "facts", "no facts"])
def test_damaged_examples_are_made_anew(texts, tmp_path: Path, damage: str) -> None:
    source, encoder, cache = texts(3, 4), Lengths(), tmp_path / "cache"
    prepare([source], encoder, OPTIONS, cache)
    tokens = next(cache.glob("*.arrow"))
    data = bytearray(tokens.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    elif damage == "cut":
        del data[-100:]
    tokens.unlink()
    tokens.write_bytes(data)
    facts = tokens.with_suffix(".json")
    if damage == "facts":
        facts.write_text("{")
    elif damage == "no facts":
        facts.unlink()
    prepared = prepare([source], encoder, OPTIONS, cache)
    assert encoder.calls == 4
    assert prepared.lengths.tolist() == [3, 4]
    assert sorted(file.suffix for file in cache.iterdir()) == [".arrow", ".json"]


def test_a_disk_that_cannot_be_written_is_the_machines_failure(texts, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(MachineError, match="expected room for the prepared examples"):
        prepare([texts(3)], Lengths(), OPTIONS, tmp_path / "cache")


def test_progress_is_told(texts, tmp_path: Path) -> None:
    told: list[int] = []
    prepare([texts(*[3] * 1200)], Lengths(), OPTIONS, tmp_path / "cache", told.append)
    assert told == [500, 1000]


def test_memory_does_not_grow_with_the_rows(
    write_rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.data.writer.BATCH_ROWS", 256)

    def peak(rows: int) -> int:
        path = write_rows('{"text": "9"}\n' * rows, f"{rows}.jsonl")
        tracemalloc.start()
        prepare([Source(path=str(path))], Lengths(), OPTIONS, tmp_path / "cache")
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    few, many = peak(2_000), peak(30_000)
    # The index in memory is 4 + 4 + 8 + 4 + 4 bytes a row; a row held whole would be kilobytes.
    assert many - few < 28_000 * 64


class Pairs(Lengths):
    """An encoder for texts `a b`: two sequences of so many tokens, and their difference."""

    def examples(self, content: Content) -> list[Encoded]:
        sizes = [int(size) for size in content.text.split()]
        trained = [np.arange(size) > 0 for size in sizes]
        parts = [
            Encoded(np.arange(n, dtype=np.int32), t, 1, False)
            for n, t in zip(sizes, trained, strict=True)
        ]
        return [together(parts, {"margin": sizes[0] - sizes[1]})]


def test_sequences_of_one_row_stay_together_with_their_numbers(texts, tmp_path: Path) -> None:
    made = prepare([texts("4 3", "2 5")], Pairs(), OPTIONS, tmp_path / "cache")
    assert made.lengths.tolist() == [7, 7]
    assert made.num_sequences.tolist() == [2, 2]
    assert [[len(one) for one in example.sequences()] for example in made] == [[4, 3], [2, 5]]
    assert [example.numbers["margin"].tolist() for example in made] == [[1.0], [-3.0]]
    (columns,) = made.columns()
    assert columns.example.tolist() == [0, 0, 1, 1]
    assert columns.offsets.tolist() == [0, 4, 7, 9, 14]
    made.add_numbers("reference", lambda index: np.array([index, -index], dtype=np.float32))
    batch = collate(list(made), packed=False, pad_id=0)
    assert batch.units == (2, 2)
    assert batch.numbers["margin"].tolist() == [1.0, -3.0]
    assert batch.numbers["reference"].tolist() == [0.0, 0.0, 1.0, -1.0]


def test_one_row_can_make_several_examples(texts, tmp_path: Path) -> None:
    class Halves(Lengths):
        def examples(self, content: Content) -> list[Encoded]:
            return super().examples(content) * 2

    made = prepare([texts(4, 5)], Halves(), OPTIONS, tmp_path / "cache")
    assert made.lengths.tolist() == [4, 4, 5, 5]
    assert made.num_sequences.tolist() == [1, 1, 1, 1]
    assert [example.row for example in made] == [1, 1, 2, 2]
