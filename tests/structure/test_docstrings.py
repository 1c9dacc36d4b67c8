"""Every public name says what it is."""

import ast
from collections.abc import Iterator

import pytest

from tunesmith.testing.source import Module, package_modules


def undocumented(module: Module) -> Iterator[str]:
    """Modules, and public classes, functions and methods of a file without a docstring."""
    if not ast.get_docstring(module.tree):
        yield module.path
    yield from (f"{module.path}:{node.lineno}: {name}" for node, name in _silent(module.tree, ""))


def _silent(
    node: ast.AST, prefix: str
) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, str]]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        name = f"{prefix}{child.name}"
        if child.name.startswith("_") or _is_overload(child):
            continue
        if not ast.get_docstring(child):
            yield child, name
        if isinstance(child, ast.ClassDef):
            yield from _silent(child, f"{name}.")


def _is_overload(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list)


def test_all_public_names_have_a_docstring() -> None:
    silent = [text for module in package_modules() for text in undocumented(module)]
    assert not silent, "\n".join(silent)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1", ["a.py"]),
        ('"""M."""\ndef f(): ...', ["a.py:2: f"]),
        ('"""M."""\nclass A:\n    """A."""\n    def f(self): ...', ["a.py:4: A.f"]),
        (
            '"""M."""\nclass A:\n    """A."""\n    def __len__(s): ...\n    def _f(self): ...',
            [],
        ),
        ('"""M."""\nclass _A:\n    def f(self): ...', []),
        ('"""M."""\ndef f():\n    """F."""\n    def inner(): ...', []),
    ],
)
def test_a_silent_name_is_found(source: str, expected: list[str]) -> None:
    assert list(undocumented(Module("a.py", source))) == expected
