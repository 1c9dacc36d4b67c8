"""Compiles the C sources beside this file, once per machine, and loads them.

Why C and not `torch.compile`: that needs a C++ compiler as well and takes far longer to start, and
code that it specialises for the first shapes it sees could give a resumed run other bits than an
uninterrupted one.
"""

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from tunesmith.config.home import home
from tunesmith.models.kernels import liger

_FLAGS = (
    "-O3",
    "-march=native",
    "-std=c11",
    "-fPIC",
    "-fopenmp",
    # Neither changes a result: without errno of sqrtf and traps on NaN, loops become vectors.
    "-fno-math-errno",
    "-fno-trapping-math",
)
_SECONDS = 120
"""Longest a compiler may take; it needs about one."""


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they cannot be had.

    They share the OpenMP runtime that torch has loaded: a second one would bring threads of its
    own, and both would wait for the same cores.
    """
    compiler = os.environ.get("CC") or shutil.which("cc")
    runtime = _openmp_of_torch()
    if compiler is None or runtime is None or os.environ.get("TUNESMITH_KERNELS") == "torch":
        return None
    path = home() / "kernels" / f"{_key(compiler, runtime)}.so"
    try:
        if not path.is_file():
            _compile(compiler, runtime, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):
        return None


def describe() -> str:
    """`native` with its key, `liger` with its version, or `torch`: what the lock file says."""
    if torch.cuda.is_available():
        return liger.describe() or "torch"
    loaded = library()
    return "torch" if loaded is None else f"native {Path(loaded._name).stem}"


@cache
def has_tiles(kind: str) -> bool:
    """Whether the processor multiplies tiles (Intel's AMX) of "bf16" or "int8": torch uses them."""
    return f"amx_{kind}" in _processor().split()


def serves(*tensors: torch.Tensor) -> bool:
    """Whether the compiled kernels can take these tensors: on the CPU, contiguous, fp32 or bf16."""
    return library() is not None and all(
        tensor.device.type == "cpu"
        and tensor.dtype in (torch.float32, torch.bfloat16)
        and tensor.is_contiguous()
        for tensor in tensors
    )


def call(
    name: str, dtype: torch.dtype | None, *arguments: torch.Tensor | int | float | None
) -> None:
    """Run the kernel `name` for stored numbers of type `dtype`.

    Args:
        name: Of the C function, without its type.
        dtype: fp32 or bf16; None for a function that stores neither.
        *arguments: In the order of the C function; tensors go as the address of their data, None
            as a null pointer, int as int64_t, float as float.
    """
    endings = {torch.bfloat16: "_bf16", torch.float32: "_float", None: ""}
    function = getattr(library(), name + endings[dtype])
    function(*[_argument(value) for value in arguments])


def _argument(value: torch.Tensor | int | float | None) -> object:
    if isinstance(value, torch.Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if value is None:
        return ctypes.c_void_p(0)
    return ctypes.c_float(value) if isinstance(value, float) else ctypes.c_int64(value)


def _openmp_of_torch() -> Path | None:
    """The OpenMP runtime in this process; on Linux only, since elsewhere there is no such list."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    found = re.search(r"(/\S*/lib(?:gomp|iomp5|omp)[^/\s]*\.so[^/\s]*)$", maps, re.MULTILINE)
    return Path(found[1]) if found else None


def _sources() -> list[Path]:
    return sorted(Path(__file__).parent.glob("*.[ch]"))


def _key(compiler: str, runtime: Path) -> str:
    """Of everything that decides what is compiled: sources, flags, compiler, processor."""
    digest = hashlib.sha256()
    for source in _sources():
        digest.update(source.read_bytes())
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, timeout=_SECONDS, check=False
    ).stdout
    digest.update(repr((_FLAGS, version, str(runtime), _processor())).encode())
    return digest.hexdigest()[:16]


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = re.search(r"^(?:flags|Features)\s*:.*$", text, re.MULTILINE)
    return found[0] if found else platform.processor()


def _compile(compiler: str, runtime: Path, path: Path) -> None:
    """Into a folder beside `path`, then one rename: a second process never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        objects = []
        for source in (s for s in _sources() if s.suffix == ".c"):
            objects.append(f"{folder}/{source.stem}.o")
            _run([compiler, *_FLAGS, "-c", str(source), "-o", objects[-1]])
        # Linked without -fopenmp, against the very file that torch has loaded.
        _run([compiler, "-shared", "-o", f"{folder}/kernels.so", *objects, str(runtime), "-lm"])
        os.replace(f"{folder}/kernels.so", path)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
