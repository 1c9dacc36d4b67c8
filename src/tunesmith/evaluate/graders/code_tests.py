r"""Whether a program passes its tests, each program in a sandbox of its own.

The code is the inside of the output's first ``` fence, or all of it. `tests` is a text of Python
(HumanEval: `{{item.test}}\ncheck({{item.entry_point}})`) or a list of them (MBPP:
`{{item.test_list}}`); a test passes when it raises nothing. A program that raises, overstays or
ends its process passes none.

What is tested shares a process with its tests: a program that is written to deceive them can.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tunesmith.config.section import Section
from tunesmith.evaluate import sandbox
from tunesmith.evaluate.fenced import code_in
from tunesmith.evaluate.graders._boxed import graded, requests_of
from tunesmith.evaluate.graders.base import Answered, Scored
from tunesmith.evaluate.means import Means
from tunesmith.evaluate.sandbox.box import Box, Request
from tunesmith.evaluate.templates import Template, fill, look_up

SOURCE = Path(sandbox.__file__).with_name("run_tests.py")


class Config(Section):
    """A program and its tests."""

    type: Literal["code_tests"] = "code_tests"
    name: str = ""
    """What reports call it."""
    input: Template = "{{sample.output_text}}"
    """The program, in a ``` fence or bare."""
    before: Template = ""
    """Code that stands in front of it, such as imports or the head of a function."""
    tests: Template = "{{item.tests}}"
    """A text of Python, or one place with a list of them."""
    each: bool = False
    """The share of the tests that pass, rather than 1 when all do."""
    timeout_seconds: float = Field(5.0, gt=0, le=600)
    """For the program, and for each test, on a clock."""
    memory_mib: int = Field(512, ge=16)
    """Beyond what Python itself holds."""


def check(config: Config, reference: str, row: Mapping[str, Any]) -> None:
    """Raise where the row has no tests."""
    _request(config, Answered(reference, reference, row))


def score_all(config: Config, answers: Sequence[Answered], means: Means) -> list[Scored]:
    """1 or 0 for each program, or with `each` the share of tests that it passes."""
    requests = requests_of(partial(_request, config), answers)
    sizes = [len(each[1]["tests"]) for each in requests if not isinstance(each, Scored)]
    seconds = config.timeout_seconds * (max(sizes, default=0) + 1) + 1
    box = Box(SOURCE.read_text(encoding="utf-8"), seconds, config.memory_mib, fresh=True)
    done = graded(box, requests)
    shares = [each if isinstance(each, Scored) else Scored(each.score) for each in done]
    return shares if config.each else [replace(each, score=each.score // 1) for each in shares]


def _request(config: Config, answer: Answered) -> Request:
    given = (answer.output, answer.reference, answer.row)
    tests = look_up(config.tests, *given)
    tests = [tests] if isinstance(tests, str) else tests
    if not isinstance(tests, list) or not tests or not all(isinstance(t, str) for t in tests):
        raise ValueError(f"tests that are no text and no list of texts: {str(tests)[:60]}")
    before = fill(config.before, *given)
    item = {"before": before, "tests": tests, "seconds": config.timeout_seconds}
    return {"code": code_in(fill(config.input, *given))}, item
