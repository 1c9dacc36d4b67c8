"""Which bytes a base is made of: one SHA-256 over its weight, config and tokenizer files."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from tunesmith.models.refuse import INDEX, weight_names

OTHER_FILES = (
    "config.json",
    "generation_config.json",
    INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
"""Files beside the weights that change what the base computes or how text becomes tokens."""


def fingerprint(folder: Path, gguf: str | None) -> str:
    """SHA-256 over the sorted (name, SHA-256) of the files of a base.

    Args:
        folder: Folder of the base.
        gguf: Name of its GGUF file, which then is the only file; None for safetensors.

    Returns:
        64 hexadecimal digits. The name of the folder and the times of its files do not count.
    """
    if gguf is not None:
        names = [gguf]
    else:
        others = [name for name in OTHER_FILES if (folder / name).is_file()]
        names = sorted({*weight_names(folder), *others})
    lines = "".join(f"{name} {file_sha256(folder / name)}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file; read again only when its size or time of change is another."""
    found = os.stat(path)
    return _hash(str(path.resolve()), found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1024)
def _hash(path: str, num_bytes: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
