"""Every test that docs/reliability.md names is there, and every class of incident has an answer."""

import ast
import json
import re
from pathlib import Path

import pytest

from benchmarks.fault_table import count, insert

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"(tests/[\w/]+\.py)::(\w+)", PAGE)))


def functions_of(path: str) -> set[str]:
    """Names of the test functions of a file; none where it is missing."""
    file = ROOT / path
    tree = ast.parse(file.read_text(encoding="utf-8") if file.is_file() else "")
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda value: value)
def test_a_test_that_the_page_names_exists(path: str, name: str) -> None:
    assert name in functions_of(path)


def incidents() -> list[list[str]]:
    """Cells of each line of the table of incidents."""
    table = PAGE.partition("| class |")[2].partition("\n\n")[0]
    lines = [line for line in table.splitlines()[2:] if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_incident_is_covered_or_says_why_not() -> None:
    found = incidents()
    assert len(found) == 20, "the table of incidents has 20 classes"
    for kind, answer, covered in found:
        assert answer, kind
        assert "::" in covered or "not covered" in answer, kind


def test_the_table_is_that_of_the_stored_results() -> None:
    stored = ROOT / "benchmarks" / "results" / "faults.json"
    rows = count(json.loads(stored.read_text(encoding="utf-8")))
    assert rows
    assert insert(PAGE, rows) == PAGE, "run: python -m benchmarks.faults"
