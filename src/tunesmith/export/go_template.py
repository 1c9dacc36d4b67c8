"""A renderer for the part of Go's text/template that `ollama.py` writes, to check what it wrote.

It knows: text with trim markers, `range $i, $m := .Messages`, `if`/`else if`/`else`/`end`,
`$name := ...`, string literals, `.Messages`, `$.Messages`, fields of a message, and the functions
`eq ne and not len slice`. Anything else is an error, never something else than Go would write.
See the documentation of text/template in Go's standard library.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Scope = dict[str, Any]

_ACTION = re.compile(r"(\s*)\{\{(-\s)?((?:\"(?:\\.|[^\"\\])*\"|[^\"}])*?)(\s-)?\}\}(\s*)")
_WORD = re.compile(r'"(?:\\.|[^"\\])*"|[()]|:=|,|[^\s(),"]+')
_FUNCTIONS = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "and": lambda a, b: a and b,
    "not": lambda a: not a,
    "len": len,
    "slice": lambda items, start: items[start:],
}


@dataclass
class _Block:
    """A `range` or one branch of an `if`, with what is inside."""

    keyword: str
    words: list[str]
    inner: list["str | _Block"] = field(default_factory=list)
    otherwise: list["str | _Block"] = field(default_factory=list)


def render(template: str, messages: Sequence[dict[str, str]]) -> str:
    """What Go writes for a conversation.

    Args:
        template: Of the subset named above.
        messages: With `role` and `content`.

    Raises:
        ValueError: Something that is not of the subset.
    """
    conversation = [{"Role": m["role"], "Content": m["content"]} for m in messages]
    pieces = list(_pieces(template))
    tree = _parse(pieces, [])
    if pieces:
        raise ValueError(f"an {pieces[0][1]!r} without its beginning")
    return "".join(_written(tree, {".": {"Messages": conversation}}))


def _pieces(template: str) -> Iterator[tuple[bool, str]]:
    """(is an action, text) in order, white space trimmed where a marker asks for it."""
    at, trim_next = 0, False
    for found in _ACTION.finditer(template):
        before, left, action, right, after = found.groups()
        text = template[at : found.start()] + before
        text = text.lstrip(" \t\r\n") if trim_next else text
        yield False, text.rstrip(" \t\r\n") if left else text
        yield True, action.strip()
        trim_next, at = right is not None, found.end() - len(after)
    rest = template[at:]
    yield False, rest.lstrip(" \t\r\n") if trim_next else rest


def _parse(pieces: list[tuple[bool, str]], until: list[str]) -> list[str | _Block]:
    """Nodes up to an action whose first word is in `until`, which stays in `pieces`."""
    nodes: list[str | _Block] = []
    while pieces:
        is_action, text = pieces[0]
        words = _WORD.findall(text) if is_action else []
        if words and words[0] in ("end", "else"):
            if words[0] not in until:
                raise ValueError(f"{words[0]!r} without its beginning")
            return nodes
        pieces.pop(0)
        if not is_action:
            nodes.append(text)
        elif words[0] in ("if", "range"):
            nodes.append(_block(pieces, words))
        else:
            nodes.append(_Block("value", words))
    if until:
        raise ValueError("a block without its end")
    return nodes


def _block(pieces: list[tuple[bool, str]], words: list[str]) -> _Block:
    block = _Block(words[0], words[1:])
    block.inner = _parse(pieces, ["else", "end"])
    closing = _WORD.findall(pieces.pop(0)[1])
    if closing == ["end"]:
        return block
    if closing[1:2] == ["if"]:
        block.otherwise = [_block(pieces, closing[1:])]
        return block
    block.otherwise = _parse(pieces, ["end"])
    pieces.pop(0)
    return block


def _written(nodes: Sequence[str | _Block], scope: Scope) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif node.keyword == "if":
            chosen = node.inner if _value(node.words, scope) else node.otherwise
            yield from _written(chosen, dict(scope))
        elif node.keyword == "range":
            index, comma, name, assigned, *expression = node.words
            if (comma, assigned) != (",", ":="):
                raise ValueError("a range without two variables")
            for number, message in enumerate(_value(expression, scope)):
                yield from _written(node.inner, scope | {index: number, name: message})
        elif node.words[1:2] == [":="]:
            scope[node.words[0]] = _value(node.words[2:], scope)
        else:
            yield str(_value(node.words, scope))


def _value(words: list[str], scope: Scope) -> Any:
    """The value of a pipeline without pipes: a term, or a function and its terms."""
    rest = list(words)
    terms = []
    while rest:
        terms.append(_term(rest, scope))
    first, *arguments = terms
    if callable(first):
        return first(*arguments)
    if arguments:
        raise ValueError(f"{words!r} is no call")
    return first


def _term(rest: list[str], scope: Scope) -> Any:
    word = rest.pop(0)
    if word == "(":
        inside, depth = [], 1
        while depth:
            inside.append(rest.pop(0))
            depth += {"(": 1, ")": -1}.get(inside[-1], 0)
        return _value(inside[:-1], scope)
    if word.startswith('"'):
        return json.loads(word)
    if word.isdigit():
        return int(word)
    if word in _FUNCTIONS:
        return _FUNCTIONS[word]
    if word.startswith("$.") or word.startswith("."):
        return scope["."][word.removeprefix("$").removeprefix(".")]
    if word.startswith("$"):
        name, _, key = word.partition(".")
        return scope[name][key] if key else scope[name]
    raise ValueError(f"{word!r} is not known here")
