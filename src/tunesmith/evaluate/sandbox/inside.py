"""The program behind the walls: grades rows with a source that it was given.

Run as `python -P inside.py` it speaks lines of JSON. The first is the work: `source`, which defines
`grade(sample, item)`, and the limits; the answer says which walls stand, or why the source is no
grader. Then each line is a row, and each answer its score or what the source raised, until the
input ends, which it also does when the parent dies. What the source prints is dropped.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

MAX_MESSAGE = 500
"""Characters of an error that are handed on."""


def main() -> None:
    """Answer until the input ends."""
    read, write = _channel()
    work = json.loads(read())
    walls = _walls_beside()
    readable = [sys.prefix, sys.base_prefix, *sys.path, os.getcwd(), *work["readable"]]
    stand = walls.raise_walls(work["memory_bytes"], work["cpu_seconds"], readable)
    try:
        grade = _grader(work["source"])
    except BaseException as error:
        write({"token": work["token"], "broken": _said(error)})
        return
    write({"token": work["token"], "walls": stand})
    while line := read():
        row = json.loads(line)
        write({"token": row["token"], **_answer(grade, row)})


def _channel() -> tuple[Callable[[], bytes], Callable[[dict[str, Any]], None]]:
    """How to read requests and write answers; the standard streams lead nowhere afterwards."""
    requests, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    lines = os.fdopen(requests, "rb")

    def write(answer: dict[str, Any]) -> None:
        text = json.dumps(answer).encode("ascii") + b"\n"
        while text:
            text = text[os.write(answers, text) :]

    return lines.readline, write


def _walls_beside() -> ModuleType:
    """`walls.py`, which lies beside this file: `-P` keeps that folder from the path."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "walls.py")
    spec = importlib.util.spec_from_file_location("walls", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _grader(source: str) -> Callable[[Any, Any], Any]:
    """The function `grade` that `source` defines."""
    module = ModuleType("grader")
    sys.modules["grader"] = module
    exec(compile(source, "grader.py", "exec"), module.__dict__)
    if not callable(getattr(module, "grade", None)):
        raise NameError("no function grade(sample, item)")
    return module.grade


def _answer(grade: Callable[[Any, Any], Any], row: dict[str, Any]) -> dict[str, Any]:
    try:
        score = grade(row["sample"], row["item"])
        return {"score": float(score)}
    # A row may call sys.exit: that is its own failure, and no reason to leave the others.
    except BaseException as error:
        return {"error": _said(error)}


def _said(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:
        text = ""
    kind = type(error).__name__
    return (f"{kind}: {text}" if text else kind)[:MAX_MESSAGE]


if __name__ == "__main__":
    main()
