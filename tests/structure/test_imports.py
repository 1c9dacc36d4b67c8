"""Who may import whom: the lines of docs/design.md, held by reading every import there is."""

import subprocess
import sys
from collections.abc import Iterable

import pytest

from tunesmith.testing.source import Module, package_modules

LINES = (
    {"errors"},
    {"config"},
    {"runs", "data", "models"},
    {"adapters", "checkpoint", "generate"},
    {"methods", "evaluate"},
    {"engine", "export"},
    {"recipe", "plan"},
    {"api"},
    {"serve"},
    {"cli", "__main__"},
)
"""A room imports only rooms on lines above its own."""

ONE_ROOM = {"plan": "recipe", "__main__": "cli"}
"""Files at the top of the package that belong to a room: they may import it, and it them."""

TORCHLESS = {"errors", "config", "runs"}
HEAVY = {"torch", "transformers", "peft", "tokenizers", "accelerate"}

MODULES = package_modules()


def line_of(room: str) -> int:
    """Number of the line on which `room` stands."""
    return next(number for number, rooms in enumerate(LINES) if room in rooms)


def target_room(name: str) -> str | None:
    """Room of the imported dotted name; None outside the package, empty for the package itself."""
    first, *rest = name.split(".")
    if first != "tunesmith":
        return None
    rooms = {room for line in LINES for room in line} | {"testing"}
    return rest[0] if rest and rest[0] in rooms else ""


def wrong_imports(modules: Iterable[Module]) -> list[str]:
    """Imports against the direction, as `file:line: what`."""
    wrong = []
    for module in modules:
        for line, name in module.imports():
            target = target_room(name)
            if target is None or module.room == "testing":
                continue
            if not may_import(module.room, target):
                wrong.append(f"{module.path}:{line}: {module.room or 'tunesmith'} imports {name}")
    return wrong


def may_import(room: str, target: str) -> bool:
    """Whether a file of `room` may import one of `target`; empty means the package itself."""
    if target == "testing" or not room:
        return False
    if not target or ONE_ROOM.get(room, room) == ONE_ROOM.get(target, target):
        return True
    return line_of(target) < line_of(room)


def cycles(modules: Iterable[Module]) -> list[str]:
    """Rings of modules that import each other, each as `a -> b -> a`."""
    edges = {module.name: set[str]() for module in modules}
    for module in modules:
        for _, name in module.imports():
            # `from a.b import c` is a.b.c when c is a module, else a.b.
            target = name if name in edges else name.rpartition(".")[0]
            if target in edges and target not in ("tunesmith", module.name):
                edges[module.name].add(target)
    found: list[str] = []
    done: set[str] = set()
    for start in edges:
        _follow(start, edges, [], done, found)
    return found


def _follow(
    name: str, edges: dict[str, set[str]], way: list[str], done: set[str], found: list[str]
) -> None:
    if name in way:
        found.append(" -> ".join([*way[way.index(name) :], name]))
    elif name not in done:
        for target in sorted(edges[name]):
            _follow(target, edges, [*way, name], done, found)
        done.add(name)


def test_every_room_has_a_line() -> None:
    known = {room for line in LINES for room in line} | {"testing", ""}
    assert {module.room for module in MODULES} <= known


def test_rooms_import_only_what_stands_above_them() -> None:
    assert not (wrong := wrong_imports(MODULES)), "\n".join(wrong)


def test_no_module_imports_itself_in_a_ring() -> None:
    assert not (rings := cycles(MODULES)), "\n".join(rings)


@pytest.mark.parametrize("room", sorted(TORCHLESS))
def test_rooms_without_torch(room: str) -> None:
    heavy = [
        f"{module.path}:{line}: {name}"
        for module in MODULES
        for line, name in module.imports()
        if module.room == room and name.split(".")[0] in HEAVY
    ]
    assert not heavy, "\n".join(heavy)


def test_runs_and_config_bring_no_torch_by_other_ways() -> None:
    names = [module.name for module in MODULES if module.room in TORCHLESS]
    code = f"import sys, {', '.join(names)}; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("data/a.py", "from tunesmith.models.load import load"),
        ("data/a.py", "def f():\n    from tunesmith.engine import loop"),
        ("data/a.py", "from tunesmith import api"),
        ("data/a.py", "from ..models import load"),
        ("data/a.py", "import importlib\nimportlib.import_module('tunesmith.cli.main')"),
        ("data/a.py", "from tunesmith.testing.tiny import tiny_model"),
        ("recipe.py", "import tunesmith.api"),
        ("__init__.py", "from tunesmith.errors import TunesmithError"),
    ],
)
def test_an_import_against_the_direction_is_found(path: str, source: str) -> None:
    assert len(wrong_imports([Module(path, source)])) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("data/a.py", "from tunesmith.config.section import Section\nfrom tunesmith.data import b"),
        (
            "data/shapes/a.py",
            "from . import b\nfrom .. import row\nfrom ...errors import X",
        ),
        ("plan.py", "from tunesmith.recipe import Recipe\nfrom tunesmith import __version__"),
        ("cli/train.py", "def f():\n    from tunesmith.api import train"),
        ("testing/a.py", "from tunesmith.cli import main"),
        ("errors.py", "import torch"),
    ],
)
def test_an_import_in_the_direction_is_allowed(path: str, source: str) -> None:
    assert wrong_imports([Module(path, source)]) == []


def test_a_ring_is_found_though_hidden_in_a_function() -> None:
    ring = [
        Module("data/a.py", "from tunesmith.data.b import f"),
        Module("data/b.py", "from tunesmith.data import c"),
        Module("data/c.py", "def f():\n    from tunesmith.data import a"),
    ]
    assert cycles(ring) == [
        "tunesmith.data.a -> tunesmith.data.b -> tunesmith.data.c -> tunesmith.data.a"
    ]
    assert cycles(ring[:2]) == []
