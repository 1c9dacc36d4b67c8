"""Headers of safetensors and GGUF: what is wrong is named, and no number in them is believed."""

import json
import random
import resource
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tunesmith.errors import ModelError, TunesmithError
from tunesmith.models.gguf_header import check_gguf_header
from tunesmith.models.load import load
from tunesmith.models.resolve import resolve
from tunesmith.models.safetensors_header import check_safetensors_header
from tunesmith.testing.tiny import tiny_base
from tunesmith.testing.tiny_gguf import tiny_gguf

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def safetensors(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    count = len(text) if length is None else length
    path.write_bytes(struct.pack("<Q", count) + text + data)
    return path


def test_what_the_library_writes_passes(tmp_path: Path) -> None:
    tensors = {
        "a": torch.zeros(3, 5),
        "b": torch.zeros(4, dtype=torch.bfloat16),
        "scalar": torch.tensor(1.0),
        "empty": torch.zeros(0, 7),
        "flags": torch.zeros(3, dtype=torch.bool),
        "f8": torch.zeros(8).to(torch.float8_e4m3fn),
    }
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    check_safetensors_header(tmp_path / "a.safetensors")
    save_file({}, tmp_path / "none.safetensors")
    check_safetensors_header(tmp_path / "none.safetensors")


DEEP = b'{"a":' + b"[" * 100_000
WRONG: dict[str, tuple[object, bytes, int | None, str]] = {
    "no header": (b"", b"", None, "no JSON"),
    "length beyond the file": (
        {"a": F32},
        bytes(8),
        2**62,
        "a header of 4,611,686,018,427,387,904",
    ),
    "length beyond the limit": ({"a": F32}, bytes(8), 2**27, "a header of 134,217,728 bytes"),
    "no JSON": (b"{", b"", None, "no JSON"),
    "no UTF-8": (b'{"\xff": 1}', b"", None, "no JSON"),
    "a list": ([], b"", None, "no JSON object"),
    "nested deeply": (DEEP, b"", None, "nested too deeply"),
    "a name twice": (b'{"a": 1, "a": 2}', b"", None, "one name twice"),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, b"", None, "metadata"),
    "no dtype": ({"a": {"shape": [], "data_offsets": [0, 0]}}, b"", None, "without exactly"),
    "another key": ({"a": F32 | {"code": "x"}}, bytes(8), None, "without exactly"),
    "unknown dtype": ({"a": F32 | {"dtype": "PICKLE"}}, bytes(8), None, "unknown dtype 'PICKLE'"),
    "dtype of a list": ({"a": F32 | {"dtype": ["F32"]}}, bytes(8), None, "unknown dtype"),
    "negative shape": ({"a": F32 | {"shape": [-2]}}, bytes(8), None, "of the shape [-2]"),
    "shape of floats": ({"a": F32 | {"shape": [2.0]}}, bytes(8), None, "of the shape [2.0]"),
    "shape of flags": ({"a": F32 | {"shape": [True]}}, bytes(8), None, "of the shape [True]"),
    "huge shape": ({"a": F32 | {"shape": [2**62, 2**62]}}, bytes(8), None, "of the shape"),
    "shape that overflows": ({"a": F32 | {"shape": [2**32, 2**32]}}, bytes(8), None, "in 8 bytes"),
    "many dimensions": ({"a": F32 | {"shape": [1] * 17}}, bytes(8), None, "of the shape"),
    "size of another dtype": ({"a": F32 | {"dtype": "F16"}}, bytes(8), None, "F16 [2] in 8 bytes"),
    "one offset": ({"a": F32 | {"data_offsets": [0]}}, bytes(8), None, "at [0]"),
    "end before start": ({"a": F32 | {"data_offsets": [8, 0]}}, bytes(8), None, "in -8 bytes"),
    "beyond the file": ({"a": F32}, bytes(4), None, "4 bytes of data for tensors of 8"),
    "data left over": ({"a": F32}, bytes(12), None, "12 bytes of data for tensors of 8"),
    "overlap": (
        {"a": F32, "b": F32 | {"data_offsets": [4, 12]}},
        bytes(12),
        None,
        "'b', which overlaps",
    ),
    "the same bytes twice": ({"a": F32, "b": F32}, bytes(8), None, "which overlaps"),
    "gap": ({"a": F32, "b": F32 | {"data_offsets": [12, 20]}}, bytes(20), None, "leaves a gap"),
    "gap at the start": (
        {"a": F32 | {"data_offsets": [4, 12]}},
        bytes(12),
        None,
        "gap behind the h",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_safetensors_header_is_named(name: str, tmp_path: Path) -> None:
    header, data, length, says = WRONG[name]
    path = safetensors(tmp_path / "a.safetensors", header, data, length)
    with pytest.raises(ModelError) as got:
        check_safetensors_header(path)
    assert says in got.value.got
    assert got.value.where == str(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04" + bytes(60), "a zip archive, as torch.save writes with pickle inside"),
        (b"\x80\x02c__builtin__\neval\n" + bytes(60), "a pickle"),
        (b"\x80\x04\x95" + bytes([255] * 60), "a pickle"),
        (b"GGUF\x03\x00\x00\x00" + bytes(60), "a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"", "0 bytes"),
        (b"abc", "3 bytes"),
    ],
)
def test_a_file_of_another_kind_is_named(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError) as got:
        check_safetensors_header(path)
    assert says in got.value.got


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def gguf(version: int = 3, tensors: int = 0, pairs: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)


def tensor(name: bytes, shape: list[int], kind: int = 0, offset: int = 0) -> bytes:
    packed = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + packed + struct.pack("<IQ", kind, offset)


def array(kind: int, count: int, key: bytes = b"k") -> bytes:
    return text(key) + struct.pack("<IIQ", 9, kind, count)


HUGE = 2**63
BAD_GGUF = {
    "version": (gguf(version=9) + bytes(8), "version 9"),
    "byte order": (gguf(version=3 << 24) + bytes(8), "version 3 in big-endian order"),
    "tensor count": (gguf(tensors=HUGE) + bytes(8), "9,223,372,036,854,775,808 tensors"),
    "pair count": (gguf(pairs=HUGE) + bytes(8), "9,223,372,036,854,775,808 settings"),
    "key length": (gguf(pairs=1) + struct.pack("<Q", HUGE), "a key of 9,223"),
    "key beyond the file": (gguf(pairs=1) + struct.pack("<Q", 60000), "a key of 60,000 bytes with"),
    "text length": (
        gguf(pairs=1) + text(b"k") + struct.pack("<IQ", 8, 2**25),
        "'k' of 33,554,432 bytes",
    ),
    "array count": (gguf(pairs=1) + array(4, HUGE), "with 9,223,372,036,854,775,808 elements"),
    "array beyond the file": (gguf(pairs=1) + array(4, 2**20), "of 4,194,304 bytes with 0 left"),
    "array of texts": (gguf(pairs=1) + array(8, 2**20), "a text beyond the file"),
    "text in an array": (
        gguf(pairs=1) + array(8, 1) + struct.pack("<Q", 2**64 - 8),
        "a text beyond the file",
    ),
    "array of arrays": (gguf(pairs=1) + array(9, 2), "elements of type 9"),
    "type of a value": (gguf(pairs=1) + text(b"k") + struct.pack("<I", 99), "of type 99"),
    "key twice": (gguf(pairs=2) + (text(b"k") + struct.pack("<IB", 0, 1)) * 2, "'k' twice"),
    "alignment": (
        gguf(pairs=1) + text(b"general.alignment") + struct.pack("<II", 4, 0),
        "alignment of 0",
    ),
    "name length": (gguf(tensors=1) + text(b"n" * 300), "the name of a tensor of 300 bytes"),
    "dimensions": (
        gguf(tensors=1) + text(b"n") + struct.pack("<I", 2**31),
        "2147483648 dimensions",
    ),
    "no dimension": (gguf(tensors=1) + tensor(b"n", []), "with 0 dimensions"),
    "shape of 0": (gguf(tensors=1) + tensor(b"n", [0]), "of the shape [0]"),
    "shape that overflows": (
        gguf(tensors=1) + tensor(b"n", [2**32, 2**32]) + bytes(64),
        "to 73,786,976,294,838,206,464 of 33",
    ),
    "half a block": (gguf(tensors=1) + tensor(b"n", [31], 8) + bytes(99), "shape [31] in Q8_0"),
    "unknown type": (gguf(tensors=1) + tensor(b"n", [4], 999), "of type 999"),
    "offset": (gguf(tensors=1) + tensor(b"n", [4], 0, HUGE) + bytes(64), "at 9,223"),
    "odd offset": (gguf(tensors=1) + tensor(b"n", [4], 0, 4) + bytes(64), "at 4 to 20 of"),
    "name twice": (gguf(tensors=2) + tensor(b"n", [4]) * 2, "tensor 'n' twice"),
    "overlap": (
        gguf(tensors=2) + tensor(b"n", [16]) + tensor(b"m", [16], 0, 32) + bytes(200),
        "overlaps",
    ),
    "cut off": (gguf(tensors=1) + text(b"n"), "of 4 bytes with 0 left"),
}


@pytest.mark.parametrize("name", BAD_GGUF)
def test_a_wrong_gguf_header_is_named(name: str, tmp_path: Path) -> None:
    content, says = BAD_GGUF[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError) as got:
        check_gguf_header(path)
    assert says in got.value.got


def test_what_gguf_writes_passes(tmp_path: Path) -> None:
    check_gguf_header(tiny_gguf(tmp_path / "m.gguf"))


def mutations(content: bytes, header: int, seed: int, count: int) -> list[bytes]:
    """Copies with bytes of the header changed, removed, doubled, or the end cut off."""
    chosen = random.Random(seed)
    made = []
    for _ in range(count):
        data = bytearray(content)
        for _ in range(chosen.randint(1, 4)):
            at = chosen.randrange(header)
            kind = chosen.randrange(5)
            if kind == 0:
                data[at] ^= 1 << chosen.randrange(8)
            elif kind == 1:
                data[at : at + 8] = struct.pack(
                    "<Q", chosen.choice([0, 1, 2**31, 2**63, 2**64 - 1])
                )
            elif kind == 2:
                del data[at : at + chosen.randint(1, 16)]
            elif kind == 3:
                data[at:at] = data[at : at + chosen.randint(1, 16)]
            else:
                data = data[: chosen.randrange(len(data))] or bytearray(b"G")
                header = min(header, len(data))
        made.append(bytes(data))
    return made


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def survives(check: Callable[[Path], None], path: Path, copies: list[bytes]) -> int:
    """How many copies pass; raises when anything but a ModelError comes."""
    before, passed = peak_mib(), 0
    for copy in copies:
        path.write_bytes(copy)
        try:
            check(path)
        except ModelError:
            continue
        passed += 1
    assert peak_mib() - before < 64
    return passed


def test_mutated_safetensors_headers_are_refused_or_read_by_the_library(tmp_path: Path) -> None:
    content = (tiny_base(tmp_path / "base") / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    path = tmp_path / "m.safetensors"

    def check(file: Path) -> None:
        check_safetensors_header(file)
        load_file(file)

    copies = mutations(content, header, 7, 1500)
    assert 0 < survives(check, path, copies) < len(copies) // 4


def test_mutated_gguf_headers_are_refused_or_whole(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "m.gguf")
    content = path.read_bytes()
    header = content.index(b"blk.1") + 400
    copies = mutations(content, header, 8, 1500)
    assert survives(check_gguf_header, path, copies) < len(copies)


def test_mutated_files_end_in_our_errors_when_loaded(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "m.gguf")
    content = path.read_bytes()
    for copy in mutations(content, content.index(b"blk.1") + 400, 9, 60):
        path.write_bytes(copy)
        with suppress(TunesmithError):
            load(resolve(str(path), None), torch.float32)
