"""MANIFEST.json: what a checkpoint consists of, byte for byte. The checkpoint exists when it does.

The manifest carries the SHA-256 of itself (without that line), so that a damaged one is never
mistaken for a whole one: no loader of safetensors, torch.save or DCP notices a flipped bit.
"""

import hashlib
import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.checkpoint.layout import STEP
from tunesmith.errors import CheckpointError

NAME = "MANIFEST.json"
FORMAT = 1
RESERVED = frozenset({"format", "step", "parent", "created", "files", "sha256"})
HINT = "an older checkpoint may be whole: resuming picks the newest that is"


class NewerFormatError(CheckpointError):
    """A whole checkpoint of a format that this version does not know; not to be quarantined."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size and SHA-256 (hex) of one file of a checkpoint."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says.

    Attributes:
        folder: The checkpoint it describes.
        step: Optimizer steps done when it was saved.
        parent: The step of the checkpoint saved before it; None for the first.
        created: ISO 8601 in UTC; for people only, nothing is decided by a clock.
        files: Name below the folder, with `/`, to its entry.
        extra: What the caller of `commit` added.
    """

    folder: Path
    step: int
    parent: int | None
    created: str
    files: dict[str, FileEntry]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Bytes of all files, the manifest not counted."""
        return sum(entry.bytes for entry in self.files.values())

    def same_content(self, other: "Manifest") -> bool:
        """Whether both say the same, apart from when and after which other one they were saved."""
        return (self.step, self.files, self.extra) == (other.step, other.files, other.extra)


def manifest_text(record: dict[str, Any]) -> bytes:
    """The one way to write down a manifest: sorted keys, and its own SHA-256 among them.

    Args:
        record: The manifest without `sha256`.

    Raises:
        CheckpointError: A value has no exact JSON form.
    """
    try:
        digest = hashlib.sha256(_canonical(record)).hexdigest()
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            NAME, got=str(error), expected="values that JSON can say (no NaN, no infinity)"
        ) from None
    return _canonical({**record, "sha256": digest})


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint, itself checked; the files it names are not looked at.

    Raises:
        CheckpointError: It is missing or damaged, or stands in the folder of another step.
    """
    try:
        text = (folder / NAME).read_bytes()
    except FileNotFoundError:
        got = f"no {NAME}" if folder.is_dir() else "no such checkpoint"
        raise _refusal(folder, got) from None
    except (IsADirectoryError, NotADirectoryError) as error:
        raise _refusal(folder, f"{NAME}: {error.strerror}") from None
    return parse_manifest(folder, text)


def parse_manifest(folder: Path, text: bytes) -> Manifest:
    """The manifest that `text` is.

    Raises:
        CheckpointError: It is not as `manifest_text` wrote it, or names another step.
    """
    try:
        record = json.loads(text)
        record.pop("sha256")
        whole = manifest_text(record) == text
        form, step = record["format"], record["step"]
    except (ValueError, AttributeError, KeyError, TypeError, CheckpointError):
        whole = False
    if not whole:
        raise _refusal(folder, f"{NAME}: damaged, it does not match its own SHA-256")
    if form != FORMAT:
        hint = "go on with the version of Tunesmith that wrote it"
        raise NewerFormatError(
            str(folder), got=f"format {form}", expected=f"format {FORMAT}", hint=hint
        )
    match = STEP.fullmatch(folder.name)
    if match and int(match[1]) != step:
        raise _refusal(folder, f"{NAME}: of step {step}, in the folder of another step")
    return Manifest(
        folder=folder,
        step=step,
        parent=record["parent"],
        created=record["created"],
        files={name: FileEntry(**entry) for name, entry in record["files"].items()},
        extra={key: value for key, value in record.items() if key not in RESERVED},
    )


def list_files(folder: Path) -> dict[str, Path]:
    """Every file below the folder, by its name with `/`, the manifest left out.

    Raises:
        CheckpointError: A link, socket or the like lies there: it could not be vouched for.
    """
    found = {}
    for place, folders, names in os.walk(folder, onerror=_fail):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in names + links:
            path = Path(place) / name
            relative = path.relative_to(folder).as_posix()
            if not stat.S_ISREG(path.lstat().st_mode):
                raise _refusal(folder, f"{relative}: not a regular file")
            found[relative] = path
    found.pop(NAME, None)
    return dict(sorted(found.items()))


def file_entry(path: Path) -> FileEntry:
    """Size and SHA-256 of a file as it now lies on the disk."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(bytes=file.tell(), sha256=digest)


def _fail(error: OSError) -> None:
    """A folder that cannot be read must not look like an empty one."""
    raise error


def _canonical(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def _refusal(folder: Path, got: str) -> CheckpointError:
    return CheckpointError(str(folder), got=got, expected="a whole checkpoint", hint=HINT)
