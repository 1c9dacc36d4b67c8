"""The header of a safetensors file, checked before any library is handed the file.

Layout (https://github.com/huggingface/safetensors#format): 8 bytes little-endian length, a JSON
object of that length, then the data. Nothing that the header says is believed until it was compared
with the size of the file.
"""

import json
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from tunesmith.errors import ModelError

MAX_HEADER_BYTES = 100 * 10**6
"""The limit of the safetensors library."""
MAX_DIMENSIONS = 16
MAX_EXTENT = 2**48
"""Of one dimension; more than that no file holds."""

BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}
"""Bits of an element, by the names of dtypes that the format knows."""

_KINDS = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes with pickle inside"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"GGUF", "a GGUF file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version ht", "a Git LFS pointer instead of the file"),
    (b"<", "a web page"),
)
"""How files begin that come under the name of another kind."""


def check_safetensors_header(path: Path) -> None:
    """Check that a file is safetensors and that its header fits it.

    Args:
        path: The file; only its header is read.

    Raises:
        ModelError: It is of another kind, cut off, or its header is too long, no JSON, or names
            tensors that overlap, leave gaps, lie outside the file or do not have the size that
            their dtype and shape give.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            entries, length = _read(path, file, size)
    except OSError as error:
        raise ModelError(
            str(path), got=f"a file that cannot be read ({error.strerror})", expected="safetensors"
        ) from error
    spans = sorted(_span(path, name, entry) for name, entry in entries.items())
    _check_layout(path, spans, size - 8 - length)


def kind_of(head: bytes) -> str | None:
    """What a file is by its first bytes, where that is no safetensors."""
    return next((kind for magic, kind in _KINDS if head.startswith(magic)), None)


def _read(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """The entries of the tensors, and the bytes of the header behind its length."""
    head = file.read(10)
    length = int.from_bytes(head[:8], "little")
    if len(head) < 8 or length > MAX_HEADER_BYTES or length > size - 8:
        kind = kind_of(head)
        got = kind or f"a header of {length:,} bytes in a file of {size:,}"
        raise _refused(path, got if len(head) >= 8 or kind else f"{size} bytes")
    file.seek(8)
    try:
        header = json.loads(file.read(length), object_pairs_hook=_unique)
    except RecursionError:
        raise _refused(path, "a header that is nested too deeply") from None
    except ValueError as error:
        raise _refused(path, f"a header that is no JSON ({str(error)[:100]})") from None
    if not isinstance(header, dict):
        raise _refused(path, "a header that is no JSON object")
    facts = header.pop("__metadata__", {})
    if not isinstance(facts, dict) or not all(isinstance(fact, str) for fact in facts.values()):
        raise _refused(path, "metadata that is no object of texts")
    return header, length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("one name twice")
    return found


def _span(path: Path, name: str, entry: Any) -> tuple[int, int, str]:
    """Where the data of a tensor begins and ends, and its name."""
    named = f"tensor {name[:100]!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _refused(path, f"{named} without exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _refused(path, f"{named} of the unknown dtype {str(dtype)[:40]!r}")
    if not _counts(shape) or len(shape) > MAX_DIMENSIONS:
        raise _refused(path, f"{named} of the shape {str(shape)[:100]}")
    if not _counts(offsets) or len(offsets) != 2:
        raise _refused(path, f"{named} at {str(offsets)[:100]}")
    start, end = offsets
    bits = prod(shape) * BITS[dtype]
    if bits != 8 * (end - start):
        got = f"{named} of {dtype} {shape} in {end - start} bytes"
        raise _refused(path, got)
    return start, end, named


def _counts(value: Any) -> bool:
    """Whether it is a list of whole numbers of a size that a file can have."""
    return isinstance(value, list) and all(
        type(part) is int and 0 <= part <= MAX_EXTENT for part in value
    )


def _check_layout(path: Path, spans: list[tuple[int, int, str]], held: int) -> None:
    """Raises unless the tensors lie end to end from 0 to the end of the data."""
    edges = [(0, 0, "the header"), *spans]
    for (_, before, first), (start, _, second) in pairwise(edges):
        if start != before:
            what = "overlaps" if start < before else "leaves a gap behind"
            raise _refused(path, f"{second}, which {what} {first}")
    end = edges[-1][1]
    if end != held:
        raise _refused(path, f"{held:,} bytes of data for tensors of {end:,}")


def _refused(path: Path, got: str) -> ModelError:
    return ModelError(
        str(path),
        got=got,
        expected="a whole safetensors file",
        hint="download or copy the file again; it may be cut off, or made to harm",
    )
