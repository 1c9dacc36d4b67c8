"""Hard limits on sizes: twice what docs/design.md aims at.

EXCEPTIONS may only shrink: an entry that is no longer needed fails a test, and a new one needs a
reason that a reader of the house would accept.
"""

import ast
from collections.abc import Iterable, Iterator

import pytest

from tunesmith.testing.source import Module, num_lines, num_parameters, package_modules

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 80
MAX_LOOP_LINES = 240
MAX_PARAMETERS = 12
MAX_NESTING = 6
MAX_SECTION_KEYS = 30

LOOP = ("engine/loop.py", "train")
"""The one function that may be longer: the loop."""

EXCEPTIONS: dict[str, str] = {}
"""`file kind` or `file:function kind` -> reason."""

BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)

MODULES = package_modules()


def oversized(modules: Iterable[Module]) -> dict[str, int]:
    """What is over a limit: `place kind` -> its size."""
    return {
        f"{place} {kind}": size
        for module in modules
        for place, kind, size, limit in sizes(module)
        if size > limit
    }


def sizes(module: Module) -> Iterator[tuple[str, str, int, int]]:
    """Place, kind, size and limit of everything that is measured in a file."""
    yield module.path, "lines", len(module.text.splitlines()), MAX_FILE_LINES
    for name, function in module.functions():
        place = f"{module.path}:{name}"
        limit = MAX_LOOP_LINES if (module.path, name) == LOOP else MAX_FUNCTION_LINES
        yield place, "lines", num_lines(function), limit
        yield place, "parameters", num_parameters(function), MAX_PARAMETERS
        yield place, "nesting", nesting(function), MAX_NESTING
    for section in (node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)):
        if any(isinstance(base, ast.Name) and base.id == "Section" for base in section.bases):
            keys = sum(isinstance(node, ast.AnnAssign) for node in section.body)
            yield f"{module.path}:{section.name}", "keys", keys, MAX_SECTION_KEYS


def nesting(node: ast.AST) -> int:
    """Deepest stack of blocks inside `node`; `elif` does not deepen, a nested function starts anew.

    An `elif` is an `if` alone in the `else` of another at the same column as its parent.
    """
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        is_elif = (
            isinstance(child, ast.If)
            and isinstance(node, ast.If)
            and child in node.orelse
            and child.col_offset == node.col_offset
        )
        own = isinstance(child, BLOCKS) and not is_elif
        deepest = max(deepest, own + nesting(child))
    return deepest


def test_nothing_is_over_its_limit() -> None:
    over = [f"{w}: {size}" for w, size in oversized(MODULES).items() if w not in EXCEPTIONS]
    assert not over, "\n".join(over)


def test_every_exception_is_still_needed() -> None:
    assert set(EXCEPTIONS) <= set(oversized(MODULES)), "remove what is no longer over its limit"


def test_the_loop_is_where_it_is_looked_for() -> None:
    assert LOOP in {(module.path, name) for module in MODULES for name, _ in module.functions()}


def function_of(lines: int) -> str:
    """A function of so many lines."""
    return "def f():\n" + "    x = 1\n" * (lines - 1)


def method_of(parameters: str) -> str:
    """A method with one parameter for each letter, besides self."""
    return f"class A:\n    def f(self, {', '.join(parameters)}): ...\n"


def section_of(keys: int) -> str:
    """A section with so many keys."""
    return "class A(Section):\n" + "".join(f"    k{i}: int\n" for i in range(keys))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\n" * 501, {"a.py lines": 501}),
        (function_of(81), {"a.py:f lines": 81}),
        (function_of(80), {}),
        (method_of("abcdefghijklm"), {"a.py:A.f parameters": 13}),
        (method_of("abcdefghijkl"), {}),
        (section_of(31), {"a.py:A keys": 31}),
    ],
)
def test_sizes_are_measured(source: str, expected: dict[str, int]) -> None:
    assert oversized([Module("a.py", source)]) == expected


def test_elif_does_not_deepen_and_else_if_does() -> None:
    flat = "def f(x):\n    if x:\n        x\n    elif x:\n        x\n    elif x:\n        x\n"
    deep = "def f(x):\n    if x:\n        x\n    else:\n        if x:\n            x\n"
    assert nesting(ast.parse(flat).body[0]) == 1
    assert nesting(ast.parse(deep).body[0]) == 2
