"""Proves many recipes in one go: a script that the tests of `prove` start.

Importing torch and the rest takes seconds, and a proof needs five processes: here each is forked
from this one, which has imported everything and computed nothing. Kills are real all the same.

Usage: prove_forked.py FOLDER CASES.json ; the answers are JSON lines, in the order of the cases.
A case: name, recipe, and perhaps `broken` (a name of BREAKS) and `poisoned` (a row whose loss is
NaN). Whatever a case breaks is broken in the process of that case and its children alone.
"""

import json
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.api.breaks import BREAKS, poison, training
from tunesmith.api import session
from tunesmith.api.prove import prove
from tunesmith.errors import TunesmithError
from tunesmith.recipe import from_dict, to_yaml


def forked(module: str, arguments: Sequence[str], log: Path) -> int:
    """A `Launch` that costs no imports."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(words, 1)
    os.dup2(words, 2)
    sys.argv = [module, *arguments]
    code = 1
    try:
        runpy.run_module(module, run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    finally:
        os._exit(code)


def proven(folder: Path, case: dict) -> dict:
    """The certificate of one case, or the error that it ended in."""
    if "poisoned" in case:
        poison(case["poisoned"])
    if "broken" in case:
        BREAKS[case["broken"]]()
    folder.mkdir()
    (folder / "recipe.yaml").write_text(to_yaml(from_dict(case["recipe"])))
    try:
        return prove(folder, case.get("steps"), launch=forked)
    except TunesmithError as error:
        return {"ok": False, "differences": [str(error)], "claims": []}


def main(base: Path, cases: list[dict]) -> None:
    """Each case in a child of its own."""
    # Neither decides on a bit of what is proven, and both take longer than training here.
    session.FIT_SECONDS, training.write_pages = 0.0, lambda folder: None
    for number, case in enumerate(cases):
        answered = base / f"{number}.json"
        if child := os.fork():
            os.waitpid(child, 0)
            told = json.loads(answered.read_text()) if answered.exists() else None
            print(json.dumps([case["name"], told]), flush=True)
            continue
        try:
            answered.write_text(json.dumps(proven(base / f"case-{number}", case)))
        finally:
            os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
