"""The verbs that list what a folder of choices holds."""

import json
import subprocess
import sys

import pytest

from tunesmith import adapters, methods
from tunesmith.cli import adapters as adapters_verb
from tunesmith.cli import graders as graders_verb
from tunesmith.cli import methods as methods_verb
from tunesmith.config import folder
from tunesmith.config.described import Choice, Key, choices
from tunesmith.evaluate import graders

VERBS = [(graders_verb, graders), (methods_verb, methods), (adapters_verb, adapters)]


@pytest.mark.parametrize(("verb", "package"), VERBS, ids=["graders", "methods", "adapters"])
def test_a_list_has_every_file_of_its_folder(verb, package, capsys):
    verb.run(json=True)
    (found,) = json.loads(capsys.readouterr().out).values()
    assert [each["name"] for each in found] == folder.names(package)
    assert all(each["says"] for each in found)
    assert all(key["says"] for each in found for key in each["keys"])
    verb.run()
    shown = capsys.readouterr().out
    assert all(name in shown for name in folder.names(package))


def test_a_choice_is_told_by_its_file():
    found = {choice.name: choice for choice in choices(graders, "grader.type")}
    assert found["json_equal"] == Choice(
        "json_equal",
        "Whether the output is the same JSON value as the reference answer.",
        (
            Key(
                "fields",
                False,
                False,
                "Credit for each right field of an object instead of all or nothing.",
            ),
        ),
    )
    needed = {key.name for key in found["multi"].keys if key.needed}
    assert needed == {"graders", "calculate_output"}


@pytest.mark.skipif(sys.platform != "linux", reason="the walls are Linux's")
def test_the_walls_are_told():
    command = [sys.executable, "-m", "tunesmith.cli.main", "graders", "--walls", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    told = json.loads(done.stdout)
    assert {"memory", "time"} <= set(told["walls"])
    assert set(told["walls"]) | set(told["missing"]) == {
        "memory", "time", "files", "network", "processes"
    }  # fmt: skip
