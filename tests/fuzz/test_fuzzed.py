"""The number of cases is what is said."""

import time
from types import FunctionType

import pytest

from tests.fuzz import fuzzed, test_recipes, test_rows
from tests.fuzz.fuzzed import MARK, NUM_PROPERTIES, answers
from tunesmith.errors import DataError


def test_every_property_counts():
    found = [
        one
        for module in (test_recipes, test_rows)
        for one in vars(module).values()
        if isinstance(one, FunctionType) and getattr(one, MARK, False)
    ]
    assert len(found) == NUM_PROPERTIES


def test_other_exceptions_and_errors_without_a_place_are_findings():
    def fails() -> None:
        raise DataError("rows.jsonl:3", got="x")

    assert answers(fails, "rows.jsonl").got == "x"
    with pytest.raises(AssertionError, match=r"other\.jsonl"):
        answers(fails, "other.jsonl")
    with pytest.raises(ZeroDivisionError):
        answers(lambda: 1 // 0)


def test_what_takes_too_long_is_a_finding(monkeypatch):
    assert fuzzed.MAX_SECONDS == 2.0
    monkeypatch.setattr(fuzzed, "MAX_SECONDS", 0.1)

    def works() -> None:
        end = time.process_time() + 0.12
        while time.process_time() < end:
            pass

    with pytest.raises(AssertionError, match=r"0\.1 s"):
        answers(works)
