"""Reads a YAML file into plain dicts and lists, strictly.

Only YAML's safe types; a key written twice is an error (YAML keeps the last one silently), and so
are aliases, because a few nested ones can fill any memory.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from tunesmith.errors import RecipeError

MAX_BYTES = 1 << 17
"""A recipe is a page of text; a file beyond this is not one, and takes seconds to parse."""
MAX_DEPTH = 32
"""Levels of lists and mappings. The parser's time grows with the square of the nesting: 30,000
brackets, which are 30 kB, took it minutes."""


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, without aliases, keys written twice and endless nesting."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"an alias (*{event.anchor}), which recipes do not use",
                event.start_mark,
            )
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark
            raise yaml.constructor.ConstructorError(
                None, None, f"more than {MAX_DEPTH} levels of lists and mappings", mark
            )
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (LookupError, AttributeError, TypeError, ValueError, ArithmeticError) as error:
            # What the library's own constructors raise over `!!int ''` or `2026-13-45`.
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"a value that is no {kind}", node.start_mark
            ) from error

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, dict | list):
                raise yaml.constructor.ConstructorError(
                    None, None, "a list or mapping as a key", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-4 as text for want of a dot: the commonest surprise in recipes.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a recipe file.

    Returns:
        The mapping at the top of the file.

    Raises:
        RecipeError: The file is missing, too large, not UTF-8, not YAML, or no mapping.
    """
    if not path.is_file():
        near = ", ".join(sorted(str(p) for p in path.parent.glob("*.y*ml"))[:5])
        hint = f"recipes in that folder: {near}" if near else "give the path of a .yaml recipe"
        raise RecipeError(str(path), got="no such file", expected="a recipe (YAML)", hint=hint)
    if path.stat().st_size > MAX_BYTES:
        raise RecipeError(
            str(path), got=f"{path.stat().st_size} bytes", expected=f"at most {MAX_BYTES}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(
            str(path), got=f"bytes that are not UTF-8 at offset {error.start}", expected="UTF-8"
        ) from error
    return _mapping(parse_yaml(text, str(path)), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML text strictly; `where` names its origin in errors."""
    try:
        return _load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}:{mark.line + 1}" if mark else where
        raise RecipeError(
            place, got=error.problem or "text that is not YAML", expected="valid YAML"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(where, got=f"{error}", expected="valid YAML") from error


def _load(text: str) -> Any:
    loader = _StrictLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _mapping(data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        kind = "an empty file" if data is None else f"a {type(data).__name__}"
        raise RecipeError(
            where,
            got=kind,
            expected="a mapping with sections such as model and data",
            hint="start from recipes/quickstart.yaml",
        )
    return data
