"""The header of a GGUF file, checked before any library is handed the file.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Counts, lengths and offsets are
numbers that a stranger wrote; each is compared with the size of the file before anything is read,
made or multiplied by it. Flaws of this kind were found in llama.cpp and in Ollama more than once.
"""

import mmap
import struct
from collections.abc import Iterator
from itertools import pairwise
from math import prod
from pathlib import Path

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from tunesmith.errors import ModelError

VERSIONS = (2, 3)
MAX_TENSORS = 2**17
MAX_PAIRS = 2**14
MAX_NAME_BYTES = 2**16 - 1
"""Of a key, from the format."""
MAX_TENSOR_NAME_BYTES = 256
"""The format says 64; a few converters write more."""
MAX_TEXT_BYTES = 2**24
MAX_ELEMENTS = 2**24
"""Of an array; the largest vocabularies have a million."""
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 2**16

_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY, _UINT32 = 8, 9, 4
_BLOCKS = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}


def check_gguf_header(path: Path) -> None:
    """Check that a file is GGUF and that its header fits it.

    Args:
        path: The file; only its header is read.

    Raises:
        ModelError: It is no GGUF, of an unknown version or byte order, cut off, or its header has
            counts, lengths or offsets beyond the file or beyond any use.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if file.read(4) != b"GGUF" or size < 24:
                raise ModelError(str(path), got="a file that is no GGUF", expected="a .gguf file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _check(_Cursor(path, data))
    except OSError as error:
        raise ModelError(
            str(path), got=f"a file that cannot be read ({error.strerror})", expected="a GGUF file"
        ) from error


class _Cursor:
    """Reads on through a file, and never beyond its end."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data, self.at = path, data, 4

    @property
    def left(self) -> int:
        """Bytes that follow."""
        return len(self._data) - self.at

    def skip(self, num_bytes: int, what: str) -> None:
        """Pass over so many bytes."""
        if num_bytes > self.left:
            raise self.refused(f"{what} of {num_bytes:,} bytes with {self.left:,} left")
        self.at += num_bytes

    def number(self, num_bytes: int, what: str) -> int:
        """An unsigned number."""
        start = self.at
        self.skip(num_bytes, what)
        return int.from_bytes(self._data[start : self.at], "little")

    def text(self, limit: int, what: str) -> bytes:
        """A text, its length before it."""
        length = self.number(8, f"the length of {what}")
        if length > limit:
            raise self.refused(f"{what} of {length:,} bytes")
        start = self.at
        self.skip(length, what)
        return self._data[start : self.at]

    def texts(self, count: int, what: str) -> None:
        """Pass over texts; they may be a million."""
        data, at, end, unpack = self._data, self.at, len(self._data), struct.Struct("<Q")
        for _ in range(count):
            length = unpack.unpack_from(data, at)[0] if at + 8 <= end else MAX_TEXT_BYTES + 1
            at += 8 + length
            if length > MAX_TEXT_BYTES or at > end:
                raise self.refused(f"{what} with a text beyond the file")
        self.at = at

    def refused(self, got: str) -> ModelError:
        """The error, with the file's name."""
        return ModelError(
            str(self._path),
            got=got,
            expected="a whole GGUF file",
            hint="download or copy the file again; it may be cut off, or made to harm",
        )


def _check(cursor: _Cursor) -> None:
    """Check everything behind the magic number."""
    version = cursor.number(4, "the version")
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        order = " in big-endian order" if swapped in VERSIONS else ""
        raise cursor.refused(f"version {swapped if order else version}{order}")
    num_tensors = _count(cursor, "tensors", MAX_TENSORS)
    num_pairs = _count(cursor, "settings", MAX_PAIRS)
    alignment = _settings(cursor, num_pairs)
    spans = [(offset, offset + size, name) for name, offset, size in _tensors(cursor, num_tensors)]
    start = -(-cursor.at // alignment) * alignment
    held = cursor.at + cursor.left - start
    for (_, before, first), (begin, _, second) in pairwise(sorted(spans)):
        if begin < before:
            raise cursor.refused(f"{second}, which overlaps {first}")
    for begin, end, name in spans:
        if begin % alignment or end > held:
            raise cursor.refused(f"{name} at {begin:,} to {end:,} of {max(held, 0):,} bytes")


def _count(cursor: _Cursor, what: str, limit: int) -> int:
    count = cursor.number(8, f"the number of {what}")
    if count > limit:
        raise cursor.refused(f"{count:,} {what}")
    return count


def _settings(cursor: _Cursor, count: int) -> int:
    """Pass over the settings; the alignment that they name, else the format's own."""
    alignment, seen = 32, set()
    for _ in range(count):
        key = cursor.text(MAX_NAME_BYTES, "a key")
        named = f"the setting {key[:60].decode('utf-8', 'replace')!r}"
        if key in seen:
            raise cursor.refused(f"{named} twice")
        seen.add(key)
        kind = cursor.number(4, "a type")
        if key == b"general.alignment":
            alignment = cursor.number(4, named) if kind == _UINT32 else 0
            if not 8 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
                raise cursor.refused(f"an alignment of {alignment}")
        else:
            _value(cursor, kind, named)
    return alignment


def _value(cursor: _Cursor, kind: int, what: str) -> None:
    """Pass over a value."""
    if kind == _STRING:
        cursor.text(MAX_TEXT_BYTES, what)
    elif kind in _SCALAR_BYTES:
        cursor.skip(_SCALAR_BYTES[kind], what)
    elif kind == _ARRAY:
        inner, count = cursor.number(4, what), cursor.number(8, what)
        if count > MAX_ELEMENTS:
            raise cursor.refused(f"{what} with {count:,} elements")
        if inner == _STRING:
            cursor.texts(count, what)
        elif inner in _SCALAR_BYTES:
            cursor.skip(count * _SCALAR_BYTES[inner], what)
        else:
            raise cursor.refused(f"{what} with elements of type {inner}")
    else:
        raise cursor.refused(f"{what} of type {kind}")


def _tensors(cursor: _Cursor, count: int) -> Iterator[tuple[str, int, int]]:
    """Name, offset and bytes of each tensor."""
    seen = set()
    for _ in range(count):
        name = cursor.text(MAX_TENSOR_NAME_BYTES, "the name of a tensor")
        named = f"tensor {name.decode('utf-8', 'replace')!r}"
        if name in seen:
            raise cursor.refused(f"{named} twice")
        seen.add(name)
        num_dimensions = cursor.number(4, named)
        if not 1 <= num_dimensions <= MAX_DIMENSIONS:
            raise cursor.refused(f"{named} with {num_dimensions} dimensions")
        shape = [cursor.number(8, named) for _ in range(num_dimensions)]
        kind = cursor.number(4, named)
        if kind not in _BLOCKS:
            raise cursor.refused(f"{named} of type {kind}")
        block, block_bytes = _BLOCKS[kind]
        if min(shape) < 1 or shape[0] % block:
            type_name = GGMLQuantizationType(kind).name
            raise cursor.refused(f"{named} of the shape {shape} in {type_name}")
        yield named, cursor.number(8, named), prod(shape) // block * block_bytes
