import pytest

from tunesmith.errors import RecipeError
from tunesmith.evaluate import graders
from tunesmith.evaluate.graders.base import Answered

EXACT = {"type": "exact"}
LABEL = {"type": "string_check", "input": "{{sample.output_json.label}}", "reference": "x"}


def multi(formula, **parts):
    return {"type": "multi", "graders": parts, "calculate_output": formula}


def scored(spec, output, reference):
    return graders.open(spec).score_all([Answered(output, reference, {})])[0]


def test_the_formula_is_of_the_scores():
    spec = multi("2 * right - 0.5 * other", right=EXACT, other={**EXACT, "name": "named"})
    assert scored(spec, "a", "a").score == 1.5
    assert scored(spec, "a", "b").score == 0.0


@pytest.mark.parametrize(
    "parts",
    [
        {"right": EXACT},
        [{**EXACT, "name": "right"}],
        {**EXACT, "name": "right"},
    ],
    ids=["by name", "a list", "a single one"],
)
def test_graders_come_in_the_three_forms_of_openai(parts):
    spec = {"type": "multi", "name": "m", "graders": parts, "calculate_output": "right / 4"}
    assert scored(spec, "a", "a").score == 0.25
    assert graders.build(spec).name == "m"


def test_a_grader_that_fails_counts_as_0_and_is_told():
    spec = multi("0.5 * right + 0.25 * (1 - label)", right=EXACT, label=LABEL)
    result = scored(spec, "yes", "yes")
    assert result.score == 0.75
    assert result.failure == "label: Expecting value: line 1 column 1 (char 0)"


def test_a_formula_without_a_value_is_a_failure():
    result = scored(multi("1 / right", right=EXACT), "a", "b")
    assert (result.score, result.failure) == (
        0.0,
        "the formula has no value at right = 0",
    )


def test_a_grader_that_the_formula_leaves_out_is_not_asked():
    spec = multi("right", right=EXACT, broken={"type": "python", "source": "def grade(): 1 / 0"})
    assert scored(spec, "a", "a").score == 1.0


def test_a_row_that_a_part_cannot_grade_is_found_before():
    with pytest.raises(ValueError, match="no answer to compare with"):
        graders.build(multi("right", right=EXACT)).check("", {})


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (multi("a + b", a=EXACT), "calculate_output: one of a, min, max, abs, floor, ceil, exp, "
                                  "sqrt, log at character 5, not 'b'"),
        (multi("a", a={"type": "exat"}), "a: one of choice"),
        (multi("a", a=multi("b", b=EXACT)), "graders that are no multi themselves, unlike a"),
        (multi("a", **{"a b": EXACT}), "names of letters, digits and _, not 'a b'"),
        ({"type": "multi", "graders": [EXACT], "calculate_output": "a"},
         "graders with a name each"),
        ({"type": "multi", "graders": [{**EXACT, "name": "a"}] * 2, "calculate_output": "a"},
         "graders with a name of their own each"),
        ({"type": "multi", "graders": {"a": EXACT}}, "calculate_output: got nothing"),
    ],
)  # fmt: skip
def test_a_multi_that_cannot_be_built_says_why(spec, text):
    with pytest.raises(RecipeError) as error:
        graders.build(spec)
    assert text in str(error.value)
