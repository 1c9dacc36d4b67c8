"""Lines of a UTF-8 text file, numbered, one at a time."""

from collections.abc import Iterator
from pathlib import Path

from tunesmith.errors import DataError

MAX_ROW_BYTES = 64 * 2**20
"""Longest row; memory stays bounded even for a file that is one endless line."""

BOM = b"\xef\xbb\xbf"


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields (number, line); a byte order mark is stripped, line ends are kept.

    Only a line feed ends a line, so characters such as U+2028 inside a JSON string do not.

    Raises:
        DataError: Bytes that are not UTF-8, or a line beyond MAX_ROW_BYTES.
    """
    number, offset = 0, 0
    with path.open("rb") as file:
        while raw := file.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(raw) > MAX_ROW_BYTES:
                raise too_long(f"{path}:{number}")
            start = len(BOM) if number == 1 and raw.startswith(BOM) else 0
            try:
                line = raw[start:].decode("utf-8") if start else raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise not_utf8(path, number, start + error.start, offset, raw) from error
            yield number, line
            offset += len(raw)


def not_utf8(path: Path, number: int, column: int, offset: int, raw: bytes) -> DataError:
    """The error for bytes that are not UTF-8.

    Args:
        path: The file.
        number: The line, from 1.
        column: Bytes of the line before the bad one.
        offset: Bytes of the file before `raw`.
        raw: The line, or the part of it that was decoded.
    """
    if offset == 0 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        got = "UTF-16 text"
        hint = f"convert it: iconv -f utf-16 -t utf-8 {path.name} > utf8-{path.name}"
    else:
        place = f"0x{raw[column]:02x} at byte {offset + column} of the file"
        got = f"a byte that is not UTF-8 ({place})"
        hint = f"is it Latin-1? convert it: iconv -f latin1 -t utf-8 {path.name} > utf8-{path.name}"
    return DataError(f"{path}:{number}", got=got, expected="UTF-8 text", hint=hint)


def too_long(where: str) -> DataError:
    """The error for a row beyond MAX_ROW_BYTES."""
    limit = MAX_ROW_BYTES // 2**20
    got = f"more than {limit} MiB in one row"
    return DataError(where, got=got, expected=f"at most {limit} MiB")
