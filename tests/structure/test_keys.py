"""A key that is accepted is read.

For every key of every section there must be code that reads the attribute of that name. This finds
a key that nobody reads; that reading it changes the run is shown by the tests of the room.
"""

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from tunesmith.adapters import base as adapters
from tunesmith.config import folder
from tunesmith.config.section import Section
from tunesmith.evaluate import graders
from tunesmith.methods import base as methods
from tunesmith.recipe import Recipe
from tunesmith.testing.source import PACKAGE, Module, is_public, package_modules

MODULES = package_modules()


def sections_in(annotation: object) -> Iterator[type[Section]]:
    """Section classes within a type such as `str | list[Source]`, and within their own fields."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
        for field in annotation.model_fields.values():
            yield from sections_in(field.annotation)
    for part in get_args(annotation):
        yield from sections_in(part)


def chosen_files() -> Iterator[ModuleType]:
    """Every adapter, method and grader file: their `Config` is a section that a name picks."""
    yield from (adapters.load(name) for name in adapters.names())
    yield from (methods.load(name) for name in methods.names())
    yield from (folder.load(graders, name, "grader") for name in folder.names(graders))


def all_keys() -> list[tuple[type[Section], str]]:
    """Each section with each of its keys."""
    found = [*sections_in(Recipe)]
    found += [s for module in chosen_files() for s in sections_in(vars(module).get("Config"))]
    sections = dict.fromkeys(s for s in found if s is not Section)
    return [(section, key) for section in sections for key in section.model_fields]


@cache
def reads(tree: ast.AST) -> set[str]:
    """Names of the attributes that are read in `tree`."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def readers(tree: ast.Module, section: str, key: str) -> set[str]:
    """Public methods and properties of the class `section` in which `self.<key>` is read."""
    classes = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == section]
    return {
        function.name
        for node in classes
        for function in node.body
        if isinstance(function, ast.FunctionDef) and is_public(function.name)
        if key in reads(function)
    }


def is_read(section: str, key: str, home: Module, modules: list[Module]) -> bool:
    """Whether `key` is read outside the file that defines it, or by a function of that file.

    In its own file a validator does not count, and a method of the section counts when the method
    itself is read elsewhere; other functions of the file (of an adapter, a method, a grader) do.
    """
    names = {key} | readers(home.tree, section, key)
    outside = set[str]().union(*(reads(m.tree) for m in modules if m.path != home.path))
    functions = [n for n in home.tree.body if isinstance(n, ast.FunctionDef)]
    own = set[str]().union(*(reads(function) for function in functions))
    return bool(names & (outside | own))


def home_of(section: type[Section]) -> Module:
    """The file that defines `section`."""
    path = Path(inspect.getfile(section)).relative_to(PACKAGE).as_posix()
    return next(module for module in MODULES if module.path == path)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        pytest.param(s, key, id=f"{s.__module__.removeprefix('tunesmith.')}.{s.__name__}.{key}")
        for s, key in all_keys()
    ],
)
def test_key_is_read(section: type[Section], key: str) -> None:
    read = is_read(section.__name__, key, home_of(section), MODULES)
    assert read, f"the recipe takes {section.__name__}.{key}, and no code reads it"


def test_the_sections_of_the_recipe_are_all_looked_at() -> None:
    keys = {(section.__name__, key) for section, key in all_keys()}
    assert {("TrainSection", "warmup"), ("Source", "weight"), ("TaskSpec", "grader")} <= keys
    assert {("Config", "rank"), ("Recipe", "method")} <= keys


HOME = """
class S(Section):
    @property
    def doubled(self): return 2 * self.a
    def _check(self): return self.b
def use(s): return s.c
"""


@pytest.mark.parametrize(
    ("key", "elsewhere", "expected"),
    [
        ("a", "", False),
        ("a", "x.doubled", True),
        ("b", "x.doubled", False),
        ("b", "x.b", True),
        ("b", "x.b = 1", False),
        ("c", "", True),
        ("d", "x.doubled", False),
    ],
)
def test_reading_is_found(key: str, elsewhere: str, expected: bool) -> None:
    home = Module("data/s.py", HOME)
    assert is_read("S", key, home, [home, Module("data/t.py", elsewhere)]) is expected
