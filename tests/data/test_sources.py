"""Files to records: every kind of file, and every way in which one can be wrong."""

import csv
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.data import json_rows
from tunesmith.data.row import RowProblem
from tunesmith.data.sources import read_rows, sha256
from tunesmith.errors import DataError


def values(path: Path) -> list[dict]:
    return [row.value for row in read_rows(path)]


def numbers(path: Path) -> list[int]:
    return [row.number for row in read_rows(path)]


def test_jsonl_is_numbered_by_line_and_passes_over_empty_lines(write_rows) -> None:
    path = write_rows('{"a": 1}\n\n  \n{"a": 2}')
    assert values(path) == [{"a": 1}, {"a": 2}]
    assert numbers(path) == [1, 4]


def test_jsonl_takes_a_bom_and_windows_line_ends(write_rows) -> None:
    path = write_rows(b'\xef\xbb\xbf{"a": 1}\r\n{"a": "\xc3\xa9"}\r\n')
    assert values(path) == [{"a": 1}, {"a": "é"}]


def test_a_line_separator_inside_a_string_ends_no_line(write_rows) -> None:
    path = write_rows([{"a": "x\u2028y\u0085z"}, {"a": "b"}])
    assert numbers(path) == [1, 2]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 2**18])
def test_a_json_array_is_read_the_same_in_pieces_of_any_size(
    write_rows, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(json_rows, "CHUNK", chunk)
    rows = [{"a": 'quote " \\ [ ] { }', "b": [1, {"c": None}]}, {"a": "é 😀 \n"}, {}, {"n": -1.5}]
    for text in (json.dumps(rows), json.dumps(rows, indent=2, ensure_ascii=False) + "\n"):
        path = write_rows(b"\xef\xbb\xbf" + text.encode(), "rows.json")
        assert values(path) == rows
        assert numbers(path) == [1, 2, 3, 4]


def test_a_json_file_of_one_object_a_line_is_read_too(write_rows) -> None:
    assert values(write_rows('{"a": 1}\n{"a": 2}\n', "rows.json")) == [{"a": 1}, {"a": 2}]


def test_csv_values_are_text_and_may_hold_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = [{"prompt": 'say "hi",\nplease', "completion": "hi"}, {"prompt": "1", "completion": ""}]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(rows)
    assert values(path) == rows
    assert numbers(path) == [1, 2]


def test_a_csv_field_may_be_longer_than_the_standard_limit(write_rows) -> None:
    path = write_rows("text\n" + "x" * 200_000 + "\n", "rows.csv")
    assert len(values(path)[0]["text"]) == 200_000


def test_parquet_leaves_out_keys_without_a_value(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "a", "name": None}], "tools": None},
        {"messages": [{"role": "user", "content": "b", "name": "n"}], "tools": "[]"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert values(tmp_path / "rows.parquet") == [
        {"messages": [{"role": "user", "content": "a"}]},
        {"messages": [{"role": "user", "content": "b", "name": "n"}], "tools": "[]"},
    ]


def test_a_missing_file_names_the_one_that_was_perhaps_meant(write_rows) -> None:
    path = write_rows([{"a": 1}], "train.jsonl")
    with pytest.raises(DataError, match=r"trian\.jsonl: got no such file; expected a \.") as got:
        values(path.with_name("trian.jsonl"))
    assert got.value.hint == "did you mean train.jsonl?"


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the folder .*nowhere does not exist either"):
        values(tmp_path / "nowhere" / "train.jsonl")


def test_a_folder_names_the_files_in_it(write_rows) -> None:
    path = write_rows([{"a": 1}], "train.jsonl")
    with pytest.raises(
        DataError, match=r"got a folder without texts;[^\n]*\nhint: files in it: train\.jsonl"
    ):
        values(path.parent)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet"])
def test_an_empty_file_is_refused(write_rows, name: str) -> None:
    with pytest.raises(DataError, match="got an empty file; expected at least one row"):
        values(write_rows("", name))


@pytest.mark.parametrize(
    ("name", "content"),
    [("rows.jsonl", "\n \n"), ("rows.json", "[ ]"), ("rows.json", "\n"), ("rows.csv", "a,b\n")],
)
def test_a_file_without_rows_is_refused(write_rows, name: str, content: str) -> None:
    with pytest.raises(DataError, match=r"got (a file without rows|no rows)"):
        values(write_rows(content, name))


def test_another_kind_of_file_is_refused(write_rows) -> None:
    with pytest.raises(DataError, match=r"got a \.log file; expected a \.jsonl, \.json, \.csv, "):
        values(write_rows("hello", "rows.log"))


def test_a_truncated_line_is_named_with_its_column(write_rows) -> None:
    path = write_rows('{"a": 1}\n{"a": "broken o')
    with pytest.raises(DataError, match=r"rows\.jsonl:2: got invalid JSON at column 7") as got:
        values(path)
    assert "unterminated string" in got.value.got
    assert got.value.expected == "one JSON object a line"
    assert got.value.hint == "it is the last line and has no line end: is the file cut off?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1}, {"a": "brok', r"row 2: got invalid JSON at line 1, column 18 \(untermin"),
        ('[{"a": 1},\n {"a": 2', r"row 2: got invalid JSON at line 2, column 9"),
        ('[{"a": 1}, {"a": 2}', r"rows\.json:1: got the end of the file; expected a comma or"),
        ('[{"a": 1},', r"row 2: got the end of the file; expected a row"),
    ],
)
def test_an_array_that_breaks_off_says_so(write_rows, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as got:
        values(write_rows(text, "rows.json"))
    assert "cut off?" in got.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1} {"a": 2}]', "got '{' behind row 1; expected a comma"),
        ('[{"a": 1}, ]', "row 2: got ',' at line 1; expected a row, as a JSON object"),
        ('[{"a": 1}, 7]', "row 2: got '7' at line 1; expected a row, as a JSON object"),
        ('[{"a": 1}]\n[', r"rows\.json:2: got '\[' behind the array; expected nothing"),
        ('[\n{"a": 1},\n{"a" 2},\n{"a": 3}]', r"row 2: got invalid JSON at line 3, column 6"),
        ('{"rows": [\n]}', "got one JSON object over several lines"),
        ('"text"', "got a file that begins with '\"'; expected a JSON array of rows"),
    ],
)
def test_a_broken_array_is_refused_with_its_place(write_rows, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        values(write_rows(text, "rows.json"))


def test_a_fault_early_in_a_long_array_is_found_without_reading_it_all(write_rows) -> None:
    tail = ", ".join('{"a": "' + "x" * 90 + '"}' for _ in range(30_000))
    path = write_rows('[{"a" 1}, ' + tail + "]", "rows.json")
    tracemalloc.start()
    with pytest.raises(DataError, match="row 1: got invalid JSON at line 1, column 7"):
        values(path)
    assert tracemalloc.get_traced_memory()[1] < 3 * json_rows.CHUNK + 2**20
    tracemalloc.stop()


def test_latin_1_names_line_and_byte(write_rows) -> None:
    path = write_rows(b'{"a": 1}\n{"a": "caf\xe9"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:2: got a byte that is not UTF-8") as got:
        values(path)
    assert "(0xe9 at byte 19 of the file)" in got.value.got
    assert "iconv -f latin1 -t utf-8" in got.value.hint


@pytest.mark.parametrize("chunk", [1, 5, 2**18])
def test_latin_1_in_an_array_names_line_and_byte(
    write_rows, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(json_rows, "CHUNK", chunk)
    path = write_rows(b'[{"a": 1},\n{"a": "caf\xe9"}]', "rows.json")
    with pytest.raises(DataError, match=r"rows\.json:2: got a byte that is not UTF-8 \(0xe9 at by"):
        values(path)


def test_latin_1_in_csv_names_the_line(write_rows) -> None:
    with pytest.raises(DataError, match=r"rows\.csv:3: got a byte that is not UTF-8"):
        values(write_rows(b"text\nok\ncaf\xe9\n", "rows.csv"))


def test_utf_16_is_recognised(write_rows) -> None:
    with pytest.raises(DataError, match="got UTF-16 text; expected UTF-8 text"):
        values(write_rows('{"a": 1}\n'.encode("utf-16")))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": NaN}', "got NaN, which is no JSON"),
        ('{"a": -Infinity}', "got -Infinity, which is no JSON"),
        ('{"a": [-1e999]}', "got the number '-1e999', which is too large"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "got the key 'c' twice in one object"),
        ('{"a": ' + "[" * 70 + "]" * 70 + "}", "got nesting deeper than 64"),
        ('{"a": ' + "[" * 9000 + "]" * 9000 + "}", "got nesting deeper than 64"),
        ('{"a": "\\ud83d"}', r"got half a surrogate pair \(\\ud83d\)"),
        ('{"a": ' + "9" * 5000 + "}", "got a number that is too long"),
    ],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_json_that_means_two_things_is_refused(
    write_rows, name: str, line: str, message: str
) -> None:
    text = f'{{"ok": 1}}\n{line}\n' if name == "rows.jsonl" else f'[{{"ok": 1}},\n{line}]'
    place = r":2: " if name == "rows.jsonl" else ": row 2: "
    with pytest.raises(DataError, match=place + message):
        values(write_rows(text, name))


def test_whole_surrogate_pairs_and_many_brackets_are_fine(write_rows) -> None:
    path = write_rows('{"a": "\\ud83d\\ude00", "b": [' + ", ".join(["[]"] * 200) + "]}")
    assert values(path)[0]["a"] == "😀"


@pytest.mark.parametrize(
    ("line", "got"), [("[1]", r"a JSON array"), ("7", r"a number or null, 7"), ('"x"', "a string")]
)
def test_a_line_that_is_no_object_is_refused(write_rows, line: str, got: str) -> None:
    with pytest.raises(DataError, match=rf":1: got {got}.*; expected one JSON object a line"):
        values(write_rows(line + "\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3\n", r"rows\.csv: row 2: got 1 fields \(line 3\); expected 2, as in the head"),
        ("a,a\n1,2\n", r"rows\.csv:1: got the column 'a' twice"),
        ("a,\n1,2\n", r"rows\.csv:1: got the header \['a', ''\]"),
        ('a,b\n1,"2\n', r"rows\.csv:2: got CSV that does not parse \(unexpected end of data\)"),
    ],
)
def test_a_broken_table_is_refused_with_its_place(write_rows, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        values(write_rows(text, "rows.csv"))


def test_what_is_no_parquet_is_refused(write_rows) -> None:
    with pytest.raises(DataError, match="got a file that does not read as Parquet"):
        values(write_rows(b"PAR1 but not really", "rows.parquet"))


def test_a_handler_hears_of_bad_lines_and_the_others_are_read(write_rows) -> None:
    path = write_rows('{"a": 1}\n{"a": \n{"a": 3}\n')
    bad: list[tuple[int, RowProblem]] = []
    rows = list(read_rows(path, lambda source, number, problem: bad.append((number, problem))))
    assert [row.number for row in rows] == [1, 3]
    assert [number for number, _ in bad] == [2]


def test_the_hash_is_that_of_the_bytes(write_rows) -> None:
    path = write_rows("abc")
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def peak_of_reading(path: Path) -> int:
    tracemalloc.start()
    for _ in read_rows(path):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv"])
def test_memory_does_not_grow_with_the_file(write_rows, name: str) -> None:
    def peak(rows: int) -> int:
        if name == "rows.csv":
            return peak_of_reading(write_rows("text\n" + "some text\n" * rows, name))
        between = "\n" if name == "rows.jsonl" else ",\n"
        text = between.join(['{"text": "some text"}'] * rows)
        return peak_of_reading(write_rows(text if name == "rows.jsonl" else f"[{text}]", name))

    # 200,000 rows are 4 MB; the array is read 256 KiB at a time.
    assert peak(200_000) < peak(20_000) + 2**18


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_rows_of_countless_values_are_refused_before_they_are_made(write_rows, name: str) -> None:
    text = '{"a": [' + "[]," * 1_000_001 + "[]]}"
    path = write_rows(text if name == "rows.jsonl" else f"[{text}]", name)
    with pytest.raises(DataError, match="more than 1,000,000 values in one row"):
        values(path)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_marks_inside_of_a_text_are_no_values(write_rows, name: str) -> None:
    row = {"text": 'a,b[{\\"' * 500_000}
    text = json.dumps(row)
    assert values(write_rows(text if name == "rows.jsonl" else f"[{text}]", name)) == [row]
