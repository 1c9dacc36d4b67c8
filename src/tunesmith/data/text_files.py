"""Plain text as rows: each .txt or .md file is one document, and a folder is all of its files."""

from collections.abc import Iterator
from pathlib import Path

from tunesmith.data.lines import BOM, MAX_ROW_BYTES, not_utf8, too_long
from tunesmith.data.row import OnBad, RawRow, RowProblem

ENDINGS = (".txt", ".md")


def read_text(path: Path, on_bad: OnBad) -> Iterator[RawRow]:
    """Yields the one row of a text file, `{"text": ...}`, line ends as they stand.

    Raises:
        DataError: Bytes that are not UTF-8, or more than MAX_ROW_BYTES.
    """
    if text := _document(path, on_bad):
        yield RawRow(1, {"text": text})


def read_folder(path: Path, on_bad: OnBad) -> Iterator[RawRow]:
    """Yields the documents of a folder with `file`, the path in it, in the order of these paths."""
    for number, file in enumerate(files_in(path), 1):
        if text := _document(file, on_bad):
            yield RawRow(number, {"text": text, "file": file.relative_to(path).as_posix()})


def files_in(folder: Path) -> list[Path]:
    """The text files of a folder and the folders in it; what begins with a dot is passed over."""
    found = []
    for file in folder.rglob("*"):
        parts = file.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if file.suffix.lower() in ENDINGS and not hidden and file.is_file():
            found.append((parts, file))
    return [file for _, file in sorted(found)]


def _document(path: Path, on_bad: OnBad) -> str:
    """The text of a file; empty where it says nothing, which `on_bad` is told."""
    with path.open("rb") as file:
        raw = file.read(MAX_ROW_BYTES + 1)
    if len(raw) > MAX_ROW_BYTES:
        raise too_long(str(path))
    start = len(BOM) if raw.startswith(BOM) else 0
    try:
        text = raw[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, start + error.start) + 1
        raise not_utf8(path, number, start + error.start, 0, raw) from error
    if text.strip():
        return text
    on_bad(str(path), 1, RowProblem("an empty text", "text", "remove the file"))
    return ""
