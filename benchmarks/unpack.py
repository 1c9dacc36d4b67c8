"""A GGUF as a folder of safetensors, for sides that read nothing else: `FILE.gguf FOLDER`."""

import sys
from pathlib import Path

import torch

from tunesmith.models.base import BaseSource
from tunesmith.models.fingerprint import file_sha256
from tunesmith.models.load import load, quiet


def main(gguf: Path, folder: Path) -> None:
    """Write the model of `gguf` in bf16, with tokenizer and chat template."""
    source = BaseSource(gguf.name, gguf.parent.absolute(), gguf.name, file_sha256(gguf), None)
    base = load(source, torch.bfloat16)
    with quiet():
        base.model.save_pretrained(folder)
        base.tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
