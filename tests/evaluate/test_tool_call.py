import json

import pytest

from tunesmith.evaluate import graders
from tunesmith.evaluate.tool_calls import Call, find_calls

AREA = Call("area", {"base": 10, "height": 5})
BARE = {"name": "area", "arguments": {"base": 10, "height": 5}}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(BARE),
        json.dumps([BARE]),
        json.dumps({"name": "area", "parameters": BARE["arguments"]}),
        json.dumps({"type": "function", "function": BARE}),
        json.dumps({"function": {"name": "area", "arguments": json.dumps(BARE["arguments"])}}),
        json.dumps({"role": "assistant", "tool_calls": [{"type": "function", "function": BARE}]}),
        f"<tool_call>\n{json.dumps(BARE)}\n</tool_call>",
        f"I will look.\n<tool_call>{json.dumps(BARE)}</tool_call>\n",
        f"<tool_call>{json.dumps(BARE)}",
        f"```json\n{json.dumps(BARE)}\n```",
        f"<|python_tag|>{json.dumps(BARE)}",
        "area(base=10, height=5)",
        "[area(base=10, height=5)]",
        "  [area(\n  base=10,\n  height=5)]\n",
    ],
)
def test_a_call_is_found_however_it_is_written(text):
    assert find_calls(text) == [AREA]


def test_several_calls_come_in_order():
    tags = "".join(f"<tool_call>{json.dumps({'name': n})}</tool_call>" for n in "ab")
    assert find_calls(tags) == [Call("a", {}), Call("b", {})]
    assert find_calls("[a(), b.c(x=[1, 'y'], z={'k': None})]") == [
        Call("a", {}),
        Call("b.c", {"x": [1, "y"], "z": {"k": None}}),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "", "The area is 25.", "{}", "[]", '{"name": 3}', '{"name": "f", "arguments": [1]}', "area",
        '{"name": "f"', "area(10, 5)", "area(**x)", "area(base=f())", "area(base=x)",
        "(lambda: 0)()",
        "[area(base=10), 3]", '<tool_call>no</tool_call><tool_call>{"name": "a"}</tool_call>',
        "f(" * 3000, "[" * 100_000, '{"a":' * 100_000, "f(x=" + "9" * 5000 + ")", "f(x='\x00')",
    ],
)  # fmt: skip
def test_what_is_no_call(text):
    assert find_calls(text) == []


@pytest.mark.parametrize(
    ("output", "exact", "credit"),
    [
        ("[area(base=10, height=5)]", 1, 1), ("area(height=5.0, base=10)", 1, 1),
        ("area(base=10, height=6)", 0, 1 / 2), ("area(base=10)", 0, 1 / 2), ("area()", 0, 0),
        ("area(base=10, height=5, unit='m')", 0, 2 / 3), ("volume(base=10, height=5)", 0, 0),
        ("area(base=True, height=5)", 0, 1 / 2), ("It is 25.", 0, 0),
        ("[area(base=10, height=5), area(base=10, height=5)]", 0, 1 / 2),
    ],
)  # fmt: skip
def test_the_score_of_one_call(output, exact, credit):
    reference = json.dumps(BARE)
    assert graders.build("tool_call")(output, reference, {}) == exact
    with_credit = graders.build({"type": "tool_call", "arguments": True})
    assert with_credit(output, reference, {}) == pytest.approx(credit)


@pytest.mark.parametrize(
    ("output", "credit"),
    [
        ("[a(x=1, y=2), a(x=1, y=3), b()]", 1), ("[b(), a(x=1, y=3), a(x=1, y=2)]", 1),
        # The call with y=3 is right; the other has x alone.
        ("[a(x=1, y=3), a(x=1, y=9), b()]", (1 + 1 / 2 + 1) / 3), ("[a(x=1, y=2)]", 1 / 3),
        ("[a(x=1, y=2), a(x=1, y=3), b(), c()]", 3 / 4),
    ],
)  # fmt: skip
def test_several_calls_are_matched_in_any_order(output, credit):
    grader = graders.build({"type": "tool_call", "arguments": True})
    score = grader(output, "[a(x=1, y=2), a(x=1, y=3), b()]", {})
    assert score == pytest.approx(credit)


def test_calls_stand_in_the_row_as_json():
    grader = graders.build({"type": "tool_call", "reference": "{{item.calls}}"})
    assert grader("area(base=10, height=5)", "", {"calls": [BARE]}) == 1
    assert grader("no call", "", {"calls": []}) == 1
    assert grader("area(base=10, height=5)", "", {"calls": []}) == 0


def test_nothing_is_to_be_called():
    assert graders.build("tool_call")("It is 25.", "[]", {}) == 1
    assert graders.build("tool_call")("a()", "[]", {}) == 0


def test_a_reference_that_calls_nothing_is_an_error():
    with pytest.raises(ValueError, match="the row has no tool call to compare with"):
        graders.build("tool_call")("a()", "It is 25.", {})


def test_templates_see_the_calls():
    spec = {"type": "string_check", "reference": "area",
            "input": "{{sample.output_tools[0].function.name}}"}  # fmt: skip
    assert graders.build(spec)("area(base=10)", "", {}) == 1
