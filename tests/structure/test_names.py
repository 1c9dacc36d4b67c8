"""One word per concept: the words that docs/design.md does not use are in no public name."""

import ast
import re
from collections.abc import Iterator

import pytest

from tunesmith.testing.source import Module, is_public, package_modules

FILES_NEVER = {"util", "utils", "helper", "helpers", "common", "misc", "stuff"}

WORDS_NEVER = {
    "foundation": "base",
    "backbone": "base",
    "args": "recipe, or the name of what is passed",
    "experiment": "run",
    "job": "run (a job is one asked for over HTTP, in serve/ alone)",
    "sample": "row",
    "item": "row",
    "instance": "example",
    "bin": "pack",
    "peft": "adapter",
    "tuner": "adapter",
    "stage": "method",
    "objective": "method",
    "benchmark": "task",
    "metric": "grader",
    "snapshot": "checkpoint",
}
"""Word -> the one to use. Plurals are meant too."""

ALLOWED = {
    "samples": "rows generated before and after, samples.json and the key evaluate.samples",
    "evaluation_metric": "a key of OpenAI's text_similarity grader",
    "peft": "the adapter that passes keys on to that library; the key in the recipe is its name",
}
"""Whole names that keep a word, each with its reason; an unused one fails a test."""

ROOMS_ALLOWED = {"serve": {"job"}}

PHRASES_NEVER = {"reward_function": "grader", "reward_func": "grader", "reward_fn": "grader"}

MODULES = package_modules()


def words(name: str) -> list[str]:
    """`loadPEFTItem_rows` -> load, peft, item, row: lower case, a plural's last s removed."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
    return [re.sub(r"(?<=[^s])s$", "", part.lower()) for part in parts]


def public_names(module: Module) -> Iterator[tuple[int, str]]:
    """Line and name of public classes, functions and methods, and of the keys of sections."""
    yield from _names(module.tree.body, in_section=False)


def _names(body: list[ast.stmt], in_section: bool) -> Iterator[tuple[int, str]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if is_public(node.name):
                yield node.lineno, node.name
            if isinstance(node, ast.ClassDef):
                yield from _names(node.body, in_section=_is_section(node))
        elif in_section and isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.lineno, node.target.id


def _is_section(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id.endswith("Section") for base in node.bases)


def wrong_names(module: Module) -> list[str]:
    """Names with a word that is not used here, and what to say instead."""
    allowed = ROOMS_ALLOWED.get(module.room, set())
    wrong = []
    for line, name in [(1, module.path.rpartition("/")[2][:-3]), *public_names(module)]:
        never = [word for word in words(name) if word in WORDS_NEVER and word not in allowed]
        instead = [WORDS_NEVER[word] for word in never]
        instead += [word for phrase, word in PHRASES_NEVER.items() if phrase in name.lower()]
        if instead and name not in ALLOWED:
            wrong.append(f"{module.path}:{line}: {name}: say {', '.join(instead)}")
    return wrong


def test_no_file_for_odds_and_ends() -> None:
    parts = {(m.path, part) for m in MODULES for part in m.path.removesuffix(".py").split("/")}
    assert sorted(path for path, part in parts if part.strip("_") in FILES_NEVER) == []


def test_public_names_use_the_words_of_the_house() -> None:
    wrong = [text for module in MODULES for text in wrong_names(module)]
    assert not wrong, "\n".join(wrong)


def test_every_allowed_name_is_still_there() -> None:
    there = {name for module in MODULES for _, name in public_names(module)}
    there |= {module.path.rpartition("/")[2].removesuffix(".py") for module in MODULES}
    assert set(ALLOWED) <= there, "remove what no longer needs to be allowed"


@pytest.mark.parametrize(
    ("path", "source", "instead"),
    [
        ("data/a.py", "def read_samples(): ...", "row"),
        ("data/a.py", "class DataItem: ...", "row"),
        ("data/a.py", "class A:\n    def to_instances(self): ...", "example"),
        ("data/a.py", "class A(Section):\n    benchmark: str", "task"),
        ("data/a.py", "class PEFTTuner: ...", "adapter"),
        ("data/backbone.py", "", "base"),
        ("data/a.py", "def reward_function(): ...", "grader"),
        ("data/a.py", "class Job: ...", "run"),
    ],
)
def test_a_word_that_is_not_used_is_found(path: str, source: str, instead: str) -> None:
    assert len(found := wrong_names(Module(path, source))) == 1
    assert f"say {instead}" in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("data/a.py", "def _sample(): ..."),
        ("data/a.py", "def f():\n    for item in x.items(): pass"),
        ("data/a.py", "class A:\n    metric: str"),
        ("data/a.py", "def combine_bits(): ...\ndef class_loss(): ..."),
        ("serve/a.py", "class Job: ..."),
    ],
)
def test_other_words_pass(path: str, source: str) -> None:
    assert wrong_names(Module(path, source)) == []
