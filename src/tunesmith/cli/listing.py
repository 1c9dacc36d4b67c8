"""Lists a folder of choices, for the verbs that do."""

from collections.abc import Sequence
from dataclasses import asdict
from types import ModuleType
from typing import Any

from tunesmith.cli.output import print_json, print_rich
from tunesmith.config.described import Choice, Key, choices


def show(package: ModuleType, key: str, *, as_json: bool) -> None:
    """Print what a folder holds: a table for people, or one JSON object.

    Args:
        package: The folder, such as `tunesmith.methods`; its last name is that of the list.
        key: The recipe key that picks one of its files.
        as_json: Print every key with its default and description.
    """
    found = choices(package, key)
    if as_json:
        print_json({package.__name__.rpartition(".")[2]: [asdict(choice) for choice in found]})
    else:
        print_rich(_table(found, key))


def _table(found: Sequence[Choice], key: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(key, no_wrap=True)
    table.add_column("what it is", ratio=3)
    table.add_column("keys", ratio=2)
    for choice in found:
        table.add_row(choice.name, choice.says, ", ".join(map(_written, choice.keys)) or "-")
    return table


def _written(key: Key) -> str:
    return f"{key.name} (needed)" if key.needed else key.name
