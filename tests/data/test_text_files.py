"""Plain text files and folders as rows."""

from pathlib import Path

import pytest

from tunesmith.data.sources import read_rows, sha256
from tunesmith.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with texts, a hidden one, and a file that is no text."""
    root = tmp_path / "docs"
    for name, text in {
        "b.md": "# B\r\n",
        "a/z.txt": "\ufeffzett 🎉",
        "a.TXT": "upper",
        ".git/c.md": "hidden",
        "d.json": "[]",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())
    return root


def test_a_file_is_one_document_as_it_stands(folder: Path) -> None:
    (row,) = read_rows(folder / "b.md")
    assert (row.number, row.value) == (1, {"text": "# B\r\n"})


def test_a_folder_is_its_texts_in_the_order_of_their_paths(folder: Path) -> None:
    rows = [row.value for row in read_rows(folder)]
    assert rows == [
        {"text": "zett 🎉", "file": "a/z.txt"},
        {"text": "upper", "file": "a.TXT"},
        {"text": "# B\r\n", "file": "b.md"},
    ]


def test_the_hash_of_a_folder_is_over_names_and_texts(folder: Path) -> None:
    first = sha256(folder)
    (folder / "b.md").rename(folder / "c.md")
    second = sha256(folder)
    (folder / "c.md").write_text("# C")
    assert len({first, second, sha256(folder)}) == 3


def test_an_empty_text_is_named(folder: Path) -> None:
    (folder / "e.txt").write_text(" \n")
    with pytest.raises(DataError, match=r"e\.txt.*got an empty text"):
        list(read_rows(folder))


def test_bytes_that_are_not_utf8_are_named_with_their_line(folder: Path) -> None:
    (folder / "b.md").write_bytes("Grüße\nschön".encode("latin-1"))
    with pytest.raises(DataError, match=r"b\.md:1.*0xfc at byte 2"):
        list(read_rows(folder))


def test_a_folder_without_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder without texts"):
        list(read_rows(tmp_path))
