"""The package's own source, parsed: what the tests of its structure look at.

Everything is read with `ast`; nothing is imported, so a file that is broken or slow to import can
be judged too.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
"""The folder src/tunesmith."""

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file of the package.

    Attributes:
        path: Relative to the package's folder, such as `data/order.py`.
        text: The source.
    """

    path: str
    text: str

    @property
    def name(self) -> str:
        """Dotted name, such as `tunesmith.data.order`; a room's `__init__` has the room's name."""
        parts = self.path.removesuffix(".py").split("/")
        return ".".join(["tunesmith", *(part for part in parts if part != "__init__")])

    @property
    def room(self) -> str:
        """First part of the path without `.py`; empty for the package's own `__init__`."""
        first = self.path.split("/")[0].removesuffix(".py")
        return "" if first == "__init__" else first

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, self.path)

    def functions(self) -> Iterator[tuple[str, FunctionNode]]:
        """Every function and method, nested ones too, with its dotted name in the file."""
        yield from _functions(self.tree, "")

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and dotted name of each import, those inside functions included.

        `from a.b import c` gives `a.b.c`, since `c` may be a module; relative imports are made
        absolute; `import_module("a.b")` counts as `a.b` when the name is written out.
        """
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                origin = self._origin(node)
                yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
            elif isinstance(node, ast.Call) and _last_name(node.func) in _IMPORTERS:
                written_out = (arg for arg in node.args[:1] if isinstance(arg, ast.Constant))
                yield from ((node.lineno, str(arg.value)) for arg in written_out)

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.name.split(".")
        drop = node.level - (1 if self.path.endswith("__init__.py") else 0)
        base = package[: len(package) - drop]
        return ".".join([*base, *([node.module] if node.module else [])])


_IMPORTERS = ("import_module", "__import__")


def package_modules() -> list[Module]:
    """All files of the package, in order of their paths."""
    files = sorted(PACKAGE.rglob("*.py"))
    return [Module(f.relative_to(PACKAGE).as_posix(), f.read_text("utf-8")) for f in files]


def num_parameters(function: FunctionNode) -> int:
    """Parameters of a function, `*args` and `**kwargs` included, `self` and `cls` left out."""
    spec = function.args
    names = [arg.arg for arg in (*spec.posonlyargs, *spec.args)]
    own = 1 if names[:1] in (["self"], ["cls"]) else 0
    return len(names) - own + len(spec.kwonlyargs) + bool(spec.vararg) + bool(spec.kwarg)


def num_lines(node: FunctionNode | ast.ClassDef) -> int:
    """Lines from `def` to the last one, the docstring included, decorators not."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def is_public(dotted: str) -> bool:
    """Whether no part of the dotted name starts with an underscore."""
    return not any(part.startswith("_") for part in dotted.split("."))


def _last_name(node: ast.expr) -> str:
    """`b` of a name `b` or of an attribute `a.b`; else empty."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, FunctionNode]]:
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        name = f"{prefix}{child.name}" if named else prefix.rstrip(".")
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, child
        yield from _functions(child, f"{name}." if name else "")
