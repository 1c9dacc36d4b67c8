import json

import pytest

from tunesmith.config.check import check
from tunesmith.data.reading import read_file
from tunesmith.data.row import Conversation, Message, Row, Text
from tunesmith.data.template import Renderer
from tunesmith.errors import DataError, RecipeError
from tunesmith.evaluate.task import Failure, TaskSpec, prepare_task, run_task
from tunesmith.testing.tiny import IM_END, byte_tokenizer

PAIRS = [("2+2?", "4"), ("Capital of France?", "Paris"), ("Colour of snow?", "white")]


@pytest.fixture
def tokenizer():
    return byte_tokenizer()


@pytest.fixture
def renderer(tokenizer):
    return Renderer(tokenizer, frozenset({IM_END}))


def row(prompt, answer, number=1, **raw):
    messages = (Message("user", prompt), Message("assistant", answer))
    return Row(Conversation(messages, kind="completion"), "task.jsonl", number, raw)


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "capitals.jsonl"
    lines = [json.dumps({"prompt": p, "completion": c, "id": i}) for i, (p, c) in enumerate(PAIRS)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return list(read_file(path))


def test_prompts_references_and_rows_are_those_of_the_file(rows, renderer, tokenizer):
    task = prepare_task(TaskSpec(path=rows[0].source, grader="exact"), rows, renderer)
    assert task.name == "capitals"
    assert task.max_new_tokens == 256
    assert task.references == ["4", "Paris", "white"]
    assert task.asked == [prompt for prompt, _ in PAIRS]
    assert [raw["id"] for raw in task.raw] == [0, 1, 2]
    assert task.places[1].endswith("capitals.jsonl:2")
    expected = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(task.prompts[0]) == expected


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (2, 2), (3, 3), (9, 3), (None, 3)])
def test_limit_takes_the_first_rows_and_reads_no_more(rows, renderer, limit, expected):
    left = iter(rows)
    spec = TaskSpec(path="a.jsonl", grader="exact", limit=limit)
    task = prepare_task(spec, left, renderer)
    assert len(task) == expected
    assert task.references == ["4", "Paris", "white"][:expected]
    assert len(list(left)) == 3 - expected


def test_run_scores_each_output_against_its_row(rows, renderer):
    spec = TaskSpec(path="a.jsonl", grader="exact", max_new_tokens=7, name="mine")
    task = prepare_task(spec, rows, renderer)
    asked = []

    def generate_texts(prompts, max_new_tokens):
        asked.append((prompts, max_new_tokens))
        return ["4", "Rome", " white "]

    result = run_task(task, generate_texts)
    assert asked == [(task.prompts, 7)]
    assert result.name == "mine"
    assert result.outputs == ["4", "Rome", " white "]
    assert result.scores.tolist() == [1.0, 0.0, 1.0]
    assert result.score == pytest.approx(2 / 3)
    assert result.failures == []


def test_an_output_that_cannot_be_graded_scores_0_and_is_listed(renderer):
    grader = {"type": "string_check", "input": "{{sample.output_json}}", "reference": "1"}
    rows = [row("one?", "1", number) for number in (1, 2)]
    task = prepare_task(TaskSpec(path="task.jsonl", grader=grader), rows, renderer)
    result = run_task(task, lambda prompts, n: ["none", "1"])
    assert result.scores.tolist() == [0.0, 1.0]
    why = "Expecting value: line 1 column 1 (char 0)"
    assert result.failures == [Failure("task.jsonl:1", why)]


def test_a_number_of_outputs_that_is_not_that_of_the_rows_is_an_error(renderer):
    task = prepare_task(TaskSpec(path="a", grader="exact"), [row("a", "b")], renderer)
    with pytest.raises(ValueError, match="argument 2 is longer"):
        run_task(task, lambda prompts, n: [])


def test_no_rows_is_an_error(renderer):
    with pytest.raises(DataError, match=r"a.jsonl: got no rows; expected at least one"):
        prepare_task(TaskSpec(path="a.jsonl", grader="exact"), [], renderer)


def test_a_reference_that_the_grader_cannot_read_is_an_error_before_the_run(renderer):
    rows = [row("a", "{}", 1), row("b", "not json", 2)]
    with pytest.raises(DataError) as error:
        prepare_task(TaskSpec(path="a", grader="json_equal"), rows, renderer)
    text = "task.jsonl:2: got 'not json', which json_equal cannot grade: Expecting value"
    assert text in str(error.value)


def test_a_key_that_a_row_does_not_have_is_an_error_before_the_run(renderer):
    grader = {"type": "string_check", "reference": "{{item.label}}"}
    rows = [row("a", "b", 1, label="x"), row("a", "b", 2, lable="x")]
    with pytest.raises(RecipeError) as error:
        prepare_task(TaskSpec(path="a", grader=grader), rows, renderer)
    assert "task.jsonl:2: grader: got {{item.label}}" in str(error.value)
    assert "hint: did you mean lable?" in str(error.value)


def test_a_row_without_an_answer_is_graded_by_its_own_keys(renderer):
    content = Conversation((Message("user", "2+2?"),))
    rows = [Row(content, "task.jsonl", 1, {"gold": "4"})]
    grader = {"type": "string_check", "reference": "{{item.gold}}"}
    task = prepare_task(TaskSpec(path="a", grader=grader), rows, renderer)
    assert task.references == [""]
    assert run_task(task, lambda prompts, n: ["4"]).scores.tolist() == [1.0]
    with pytest.raises(DataError, match="no answer to compare with"):
        prepare_task(TaskSpec(path="a", grader="exact"), rows, renderer)


def test_a_text_is_no_task(renderer):
    rows = [Row(Text("once upon a time"), "story.jsonl", 3, {})]
    with pytest.raises(DataError, match=r"story.jsonl:3: got a text without a prompt"):
        prepare_task(TaskSpec(path="a", grader="exact"), rows, renderer)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"grader": "exat"}, "grader: got 'exat' (str); expected one of choice, code_tests, ex"),
        ({"grader": "exat"}, "text_similarity, tool_call (did you mean exact?)"),
        ({"grader": {"type": "score_model", "model": "a", "range": [1, 5],
                     "input": [{"role": "user", "content": "a"}]}}, "not 1 to 5 (put it into"),
        ({"grader": {"type": "json_equal", "feilds": True}}, "feilds: a key of the recipe (did you "
                                                             "mean fields?)"),
        ({"grader": {"type": "string_check", "operation": "neq"}}, "operation: 'eq', 'ne', 'like'"),
        ({"grader": "exact", "limit": 0}, "limit: got 0 (int); expected greater than or equal"),
        ({"grader": "exact", "max_new_tokens": 0}, "max_new_tokens: got 0 (int)"),
        ({"grader": "exact", "metric": 1}, "metric: got an unknown key"),
        ({}, "grader: got nothing; expected a value"),
    ],
)  # fmt: skip
def test_a_wrong_task_is_refused_when_the_recipe_is_read(values, text):
    with pytest.raises(RecipeError) as error:
        check(TaskSpec, {"path": "a.jsonl", **values}, "r.yaml")
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [({}, "heldout"), ({"name": ""}, "heldout"), ({"name": "mine"}, "mine")],
)
def test_a_task_is_called_after_its_file(values, expected):
    spec = TaskSpec(path="data/heldout.jsonl", grader="exact", **values)
    assert spec.name == expected
    assert TaskSpec(**spec.model_dump()) == spec
