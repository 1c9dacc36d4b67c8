"""Other names of keys, and a prompt put in many ways."""

from pathlib import Path

import pytest

from tunesmith.data.phrasing import check_phrasing, phrase, rename, rewritten
from tunesmith.data.reading import read_source
from tunesmith.data.row import RowProblem
from tunesmith.data.section import Source
from tunesmith.errors import DataError


def test_keys_take_the_names_of_the_shape_and_may_be_exchanged() -> None:
    row = {"question": "q", "answer": "a", "id": 7}
    assert rename(row, {"prompt": "question", "completion": "answer"}) == {
        "prompt": "q", "completion": "a", "id": 7,
    }  # fmt: skip
    assert rename({"a": 1, "b": 2}, {"a": "b", "b": "a"}) == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"x": 1}, "the keys 'x'; expected question"),
        ({"question": 1, "prompt": 2}, "both question and prompt"),
    ],
)
def test_a_key_that_is_missing_or_taken_is_a_problem(row: dict, problem: str) -> None:
    with pytest.raises(RowProblem, match=problem):
        rename(row, {"prompt": "question"})


def test_a_phrasing_takes_texts_and_numbers_and_writes_braces() -> None:
    row = {"text": "a {text} b", "n": 3}
    assert phrase("{{{text}}} x{n}", row) == "{a {text} b} x3"


@pytest.mark.parametrize("bad", ["no key", "{", "a } b {x}", "{}", "{a{b}}"])
def test_a_phrasing_without_a_key_or_with_a_stray_brace_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="in braces"):
        check_phrasing(bad)


@pytest.mark.parametrize(
    ("value", "problem"), [(None, "text: None"), (True, "text: True"), (["a"], "text: \\['a'\\]")]
)
def test_what_is_no_text_is_a_problem(value: object, problem: str) -> None:
    with pytest.raises(RowProblem, match=problem):
        phrase("{text}", {"text": value})
    with pytest.raises(RowProblem, match="text: nothing"):
        phrase("{text}", {})


def test_each_phrasing_is_a_prompt() -> None:
    made = rewritten({"text": "t", "label": "l"}, {"completion": "label"}, ["1 {text}", "2 {text}"])
    assert [row["prompt"] for row in made] == ["1 t", "2 t"]
    assert {row["completion"] for row in made} == {"l"}
    with pytest.raises(RowProblem, match="no completion"):
        rewritten({"text": "t"}, {}, ["{text}"])


def test_a_phrased_row_is_a_completion_whatever_else_it_has(write_rows) -> None:
    row = {"instruction": "i", "response": "r", "text": "t", "completion": "c"}
    source = Source(path=str(write_rows([row])), phrasings=["{text}?", "{instruction}!"])
    (read,) = read_source(source)
    assert [c.messages[0].content for c in read.contents] == ["t?", "i!"]
    with pytest.raises(ValueError, match="with the format completion"):
        Source(path="x", phrasings=["{text}"], format="alpaca")


def test_a_source_is_read_under_its_names(write_rows) -> None:
    path: Path = write_rows([{"q": "one", "a": "1"}, {"q": "two", "a": "2"}])
    source = Source(path=str(path), columns={"prompt": "q", "completion": "a"})
    first, second = read_source(source)
    assert [m.content for m in first.content.messages] == ["one", "1"]
    assert second.raw == {"q": "two", "a": "2"}
    wrong = Source(path=str(path), columns={"prompt": "question"})
    with pytest.raises(DataError, match=r"rows\.jsonl:1.*expected question"):
        list(read_source(wrong))
