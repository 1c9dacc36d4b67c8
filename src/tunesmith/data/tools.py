"""Tools and tool calls, brought to OpenAI's form with arguments as objects.

OpenAI sends the arguments of a call as JSON text; chat templates write them with `tojson`, which
would quote that text once more. So they are parsed here, once.
"""

from typing import Any

from tunesmith.data.row import RowProblem, show
from tunesmith.data.strict_json import parse


def read_tools(value: Any) -> tuple[dict, ...]:
    """The tools of a row.

    Args:
        value: A list of tools, wrapped (`{"type": "function", "function": {...}}`) or bare
            (`{"name", "description", "parameters"}`), or JSON text of it; None or empty for none.

    Raises:
        RowProblem: It is none of these.
    """
    listed = value
    if isinstance(value, str):
        try:
            listed = parse(value) if value.strip() else []
        except RowProblem as error:
            raise RowProblem(f"tools: invalid JSON, {show(value)}", "a list of tools") from error
    if listed is None:
        return ()
    if not isinstance(listed, list):
        raise RowProblem(f"tools: {show(value)}", "a list of tools")
    return tuple(_tool(tool) for tool in listed)


def _tool(value: Any) -> dict:
    """One tool, wrapped."""
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowProblem(f"tools: {show(value)}", "a tool with a name")
    return {"type": "function", "function": function}


def read_calls(value: Any, what: str) -> tuple[dict, ...]:
    """The tool calls of a message.

    Args:
        value: A list of calls, wrapped or bare, their arguments an object or JSON text of one.
        what: Names the message.

    Raises:
        RowProblem: A call without a name, or arguments that are no object.
    """
    if not isinstance(value, list):
        raise RowProblem(f"{what}: tool_calls {show(value)}", "a list of calls")
    return tuple(_call(call, what) for call in value)


def _call(value: Any, what: str) -> dict:
    """One call, wrapped, its id kept where it has one."""
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowProblem(f"{what}: tool call {show(value)}", '{"name": ..., "arguments": {...}}')
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = parse(arguments) if arguments.strip() else {}
        except RowProblem as error:
            raise RowProblem(
                f"{what}: arguments that are no JSON, {show(arguments)}", "a JSON object"
            ) from error
    if not isinstance(arguments, dict) and arguments is not None:
        raise RowProblem(f"{what}: arguments {show(arguments)}", "a JSON object")
    call = {"name": function["name"], "arguments": arguments or {}}
    identity = {"id": value["id"]} if value.get("id") else {}
    return {**identity, "type": "function", "function": call}
