"""What a choice is and takes, told by its file: for listings."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tunesmith.config import folder

NAMING = {"type", "name"}
"""Keys that pick the file, or name what it makes."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a choice.

    Attributes:
        name: As it is written.
        default: Its value when left out, as JSON can hold it; None where it is needed, too.
        needed: Whether it cannot be left out.
        says: Its description.
    """

    name: str
    default: Any
    needed: bool
    says: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A file of a folder of choices.

    Attributes:
        name: Of the file.
        says: The first line of its docstring.
        keys: Those of its `Config`, but for its name.
    """

    name: str
    says: str
    keys: tuple[Key, ...]


def choices(package: ModuleType, key: str) -> list[Choice]:
    """Every choice of a folder, by name.

    Args:
        package: The folder.
        key: The recipe key that picks one, for messages.
    """
    return [_choice(folder.load(package, name, key), name) for name in folder.names(package)]


def _choice(module: ModuleType, name: str) -> Choice:
    schema = module.Config.model_json_schema()
    needed = schema.get("required", [])
    keys = [
        Key(
            key, field.get("default"), key in needed, " ".join(field.get("description", "").split())
        )
        for key, field in schema["properties"].items()
        if key not in NAMING
    ]
    first = (module.__doc__ or "").strip().partition("\n\n")[0]
    return Choice(name, " ".join(first.split()), tuple(keys))
