"""Data files: which are read, and their records one at a time.

A file is never held in memory; what a reader keeps does not grow with it.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tunesmith.config.check import did_you_mean
from tunesmith.data.json_rows import read_json, read_jsonl
from tunesmith.data.row import OnBad, RawRow, RowProblem, refuse
from tunesmith.data.table_rows import read_csv, read_parquet
from tunesmith.data.text_files import files_in, read_folder, read_text
from tunesmith.errors import DataError

READERS: dict[str, Callable[[Path, OnBad], Iterator[RawRow]]] = {
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".txt": read_text,
    ".md": read_text,
}

EXPECTED = "a .jsonl, .json, .csv, .parquet, .txt or .md file"


def read_rows(path: str | Path, on_bad: OnBad = refuse) -> Iterator[RawRow]:
    """Yields the records of a file, in order.

    Args:
        path: A .jsonl, .json (an array), .csv or .parquet file; a .txt or .md file, which is one
            document; or a folder of such documents.
        on_bad: Called for a record that cannot be read where the next one can still be found; the
            default raises.

    Raises:
        DataError: The file is missing, empty, of another kind, not UTF-8, or broken.
    """
    checked = check_file(path)
    reader, found = read_folder if checked.is_dir() else READERS[checked.suffix.lower()], False

    def noted(source: str, number: int, problem: RowProblem) -> None:
        nonlocal found
        found = True
        on_bad(source, number, problem)

    for row in reader(checked, noted):
        found = True
        yield row
    if not found:
        raise DataError(str(path), got="a file without rows", expected="at least one row")


def sha256(path: str | Path) -> str:
    """SHA-256 of the file's bytes, in hex; of a folder, over the names and hashes of its texts.

    Raises:
        DataError: The file is missing, empty or of another kind.
    """
    checked = check_file(path)
    if not checked.is_dir():
        return _file_hash(checked)
    named = [
        f"{file.relative_to(checked).as_posix()} {_file_hash(file)}\n" for file in files_in(checked)
    ]
    return hashlib.sha256("".join(named).encode("utf-8", "surrogateescape")).hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: str | Path) -> Path:
    """The path, when it is a data file that can be opened, or a folder with texts in it.

    Raises:
        DataError: It is not; the hint names the files that were perhaps meant.
    """
    checked = Path(path)
    if not checked.exists():
        raise DataError(str(path), got="no such file", expected=EXPECTED, hint=_nearby(checked))
    if checked.is_dir():
        if files_in(checked):
            return checked
        inside = ", ".join(_data_files(checked)[:5])
        hint = f"files in it: {inside}" if inside else ""
        raise DataError(str(path), got="a folder without texts", expected=EXPECTED, hint=hint)
    if checked.suffix.lower() not in READERS:
        got = f"a {checked.suffix} file" if checked.suffix else "a file without an ending"
        raise DataError(str(path), got=got, expected=EXPECTED)
    try:
        with checked.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        reason = f"a file that cannot be read ({error.strerror})"
        raise DataError(str(path), got=reason, expected="a file that can be read") from error
    if empty:
        raise DataError(str(path), got="an empty file", expected="at least one row")
    return checked


def _nearby(path: Path) -> str:
    """A hint that names what lies in the folder of a missing file."""
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist either"
    names = _data_files(path.parent)
    near = did_you_mean(path.name, names)
    if near or not names:
        return near or f"there is no data file in {path.parent.resolve()}"
    return f"data files in {path.parent.resolve()}: {', '.join(names[:5])}"


def _data_files(folder: Path) -> list[str]:
    """Names of the data files in a folder."""
    return sorted(file.name for file in folder.iterdir() if file.suffix.lower() in READERS)
