"""From the name in the recipe to files on this machine that are safe to load."""

import re
from difflib import get_close_matches
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from tunesmith.errors import ModelError
from tunesmith.models import hub
from tunesmith.models.base import BaseSource
from tunesmith.models.fingerprint import fingerprint
from tunesmith.models.gguf_header import check_gguf_header
from tunesmith.models.refuse import INDEX, WEIGHTS, check_folder
from tunesmith.models.starter import starter

STARTER = "starter"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_GGUF_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


def resolve(base: str, revision: str | None) -> BaseSource:
    """Find a base, or bring it here, and refuse what must not be loaded.

    A folder or file of that name comes before a hub id; `starter` is always the starter model
    (write `./starter` for a folder of that name).

    Args:
        base: `starter`, a model folder, a .gguf file, or a hub id such as `org/name`.
        revision: Commit, tag or branch of a hub id; must be None for the others.

    Returns:
        Where it lies and which bytes it is made of; nothing is loaded yet.

    Raises:
        ModelError: There is no such base, or it is of a kind that is refused.
        MachineError: The disk or the network does not give it.
    """
    if base == STARTER and revision is None:
        return starter()
    folder, gguf, commit = locate(base, revision)
    return BaseSource(base, folder, gguf, fingerprint(folder, gguf), commit)


def locate(base: str, revision: str | None) -> tuple[Path, str | None, str | None]:
    """As `resolve`, without reading the weights.

    Returns:
        Folder, name of the GGUF file in it if that is what the base is, commit of a hub id.

    Raises:
        ModelError, MachineError: As `resolve`.
    """
    path = Path(base).expanduser()
    if base != STARTER and not path.exists() and _is_hub_id(base):
        folder, commit = hub.fetch(base, revision)
        check_folder(folder)
        return folder, None, commit
    if revision is not None:
        raise ModelError(
            "model.revision",
            got=f"{revision!r} with model.base {base!r}",
            expected="a revision only with a hub id",
            hint="leave model.revision out",
        )
    if base == STARTER:
        source = starter()
        return source.path, source.gguf, None
    if not base or not path.exists():
        raise _missing(base, path)
    return *_local(path), None


def _is_hub_id(base: str) -> bool:
    """Whether a path that does not exist reads as a hub id rather than as a mistyped path."""
    if not _HUB_ID.fullmatch(base) or Path(base).parent.is_dir():
        return False
    try:
        validate_repo_id(base)
    except HFValidationError:
        return False
    return True


def _local(path: Path) -> tuple[Path, str | None]:
    """Folder, and name of the GGUF file if that is what the base is."""
    if path.is_file():
        return _gguf(path)
    names = [entry.name for entry in path.iterdir()]
    whole = "config.json" in names and (WEIGHTS in names or INDEX in names)
    ggufs = sorted(name for name in names if name.endswith(".gguf"))
    if whole or not ggufs:
        _hint_inner(path, names)
        check_folder(path)
        return path.resolve(), None
    if len(ggufs) > 1:
        raise ModelError(
            str(path),
            got=f"{len(ggufs)} GGUF files ({', '.join(ggufs[:4])})",
            expected="one",
            hint=f"name the file itself: {path / ggufs[0]}",
        )
    return _gguf(path / ggufs[0])


def _gguf(path: Path) -> tuple[Path, str]:
    if _GGUF_PART.search(path.name):
        raise ModelError(
            str(path),
            got="one part of a split GGUF",
            expected="one whole file",
            hint=f"merge the parts first: llama-gguf-split --merge {path.name} whole.gguf",
        )
    check_gguf_header(path)
    return path.resolve().parent, path.resolve().name


def _hint_inner(path: Path, names: list[str]) -> None:
    """Point at the model one folder deeper, a common slip with folders of runs and exports."""
    inner = [name for name in names if (path / name / "config.json").is_file()]
    if inner and "config.json" not in names:
        raise ModelError(
            str(path),
            got="no config.json",
            expected="a model folder",
            hint=f"did you mean {path / sorted(inner)[0]}?",
        )


def _missing(base: str, path: Path) -> ModelError:
    neighbours = [STARTER]
    if path.parent.is_dir():
        neighbours += [
            str(entry if path.parent != Path() else entry.name)
            for entry in path.parent.iterdir()
            if entry.is_dir() or entry.suffix == ".gguf"
        ]
    close = get_close_matches(str(path), neighbours, n=3, cutoff=0.6)
    known = "starter, a model folder, a .gguf file, or a hub id such as org/name"
    hint = f"did you mean {' or '.join(close)}?" if close else "check the path"
    return ModelError(
        "model.base",
        got=f"{base!r}: there is no folder or file {path.absolute()}, and it is no hub id",
        expected=known,
        hint=hint,
    )
