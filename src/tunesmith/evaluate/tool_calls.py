"""Tool calls in a text that a model wrote, in whichever of the usual ways.

    <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>    Hermes and Qwen, one or more
    {"name": "f", "arguments": {"a": 1}}                           JSON, one or a list; `parameters`
                                                                   for `arguments` as Llama has it
    {"type": "function", "function": {"name": ..., ...}}           OpenAI's form
    [f(a=1), g(b="x")]                                             Python, as Llama and BFCL have it

Nothing is run: Python is parsed, and its arguments must be literals.
"""

import ast
import json
import re
from dataclasses import dataclass
from typing import Any

_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_FENCED = re.compile(r"\s*```\w*\n(.*?)```\s*", re.DOTALL)
_PYTHON_START = re.compile(r"\[?\s*[A-Za-z_][\w.]*\s*\(")
_MARK = re.compile(r"<\|python_tag\|>|<\|tool_call\|>|\[TOOL_CALLS\]")

MAX_CHARACTERS = 100_000
"""A longer text is not looked through for Python."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool.

    Attributes:
        name: Of the tool.
        arguments: By their names.
    """

    name: str
    arguments: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it."""
        return {"name": self.name, "arguments": self.arguments}


def find_calls(text: str) -> list[Call]:
    """The calls of an output, in order; none where it calls nothing, or cannot be read.

    Args:
        text: The whole output.
    """
    tagged = _TAGGED.findall(text)
    parts = tagged or [_bare(text)]
    calls: list[Call] = []
    for part in parts:
        found = _of_json(part)
        found = _of_python(part) if found is None else found
        if found is None:
            return []
        calls += found
    return calls


def _bare(text: str) -> str:
    fenced = _FENCED.fullmatch(text)
    return _MARK.sub("", fenced[1] if fenced else text).strip()


def calls_of(value: Any) -> list[Call] | None:
    """The calls that a JSON value stands for; None where it is no call and no list of calls."""
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    listed = value if isinstance(value, list) else [value]
    calls = [_call(each) for each in listed]
    return None if None in calls else calls


def _call(value: Any) -> Call | None:
    inner = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        return None
    arguments = inner.get("arguments", inner.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            return None
    arguments = {} if arguments is None else arguments
    return Call(inner["name"], arguments) if isinstance(arguments, dict) else None


def _of_json(text: str) -> list[Call] | None:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return calls_of(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _of_python(text: str) -> list[Call] | None:
    text = text.strip()
    if len(text) > MAX_CHARACTERS or not _PYTHON_START.match(text):
        return None
    try:
        tree = ast.parse(text, mode="eval").body
        listed = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
        return [_python_call(node) for node in listed]
    # The parser gives up on what is nested too deeply in one of these ways.
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None


def _python_call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("no call with named arguments")
    if any(keyword.arg is None for keyword in node.keywords):
        raise ValueError("an argument without a name")
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
    return Call(ast.unparse(node.func), arguments)
