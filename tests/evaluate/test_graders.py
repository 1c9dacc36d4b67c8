import math

import pytest
from nltk.translate.gleu_score import sentence_gleu

from tunesmith.errors import RecipeError
from tunesmith.evaluate import graders
from tunesmith.evaluate.graders.text_similarity import gleu


def score(spec, output, reference, row=None):
    return graders.build(spec)(output, reference, row or {})


@pytest.mark.parametrize("name", ["exact", "json_equal", "string_check", "text_similarity"])
def test_a_grader_builds_by_name_and_gives_the_reference_itself_a_one(name):
    grader = graders.build(name)
    assert grader.name == name
    assert grader('{"a": 1}', '{"a": 1}', {}) == 1.0
    assert 0.0 <= grader("something else", '{"a": 1}', {}) < 1.0


def test_a_grader_goes_by_the_name_it_was_given():
    assert graders.build({"type": "exact", "name": "intent"}).name == "intent"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("exat", "tasks.grader: got 'exat'; expected one of choice, code_tests, exact, json_equal"),
        ("exat", "text_similarity, tool_call\nhint: did you mean exact?"),
        ("", "tasks.grader: got ''; expected one of choice"),
        ("score_model", "tasks.grader: model: got nothing; expected a value: this key is needed"),
        ({}, "tasks.grader: got a grader without a type; expected type: one of choice"),
        ({"type": 3}, "tasks.grader: got type: 3; expected type: one of"),
        ({"type": "json_equal", "field": True}, "tasks.grader: field: got an unknown key; expected "
                                                "a key of the recipe\nhint: did you mean fields?"),
        ({"type": "string_check", "operation": "neq"}, "operation: got 'neq' (str); expected 'eq', "
                                                       "'ne', 'like' or 'ilike'"),
        ({"type": "text_similarity", "evaluation_metric": "meteor"}, "needs the WordNet data"),
        ({"type": "text_similarity", "evaluation_metric": "cosine"}, "needs an embedding model"),
        ({"type": "text_similarity", "evaluation_metric": "blue"}, "got 'blue' (str); expected "),
        ({"type": "string_check", "input": "{{itm.x}}"}, "not {{itm.x}}"),
        ({"type": "string_check", "input": "{{item.x"}, "expected a }} for every {{"),
    ],
)  # fmt: skip
def test_a_grader_that_cannot_be_built_says_why(spec, text):
    with pytest.raises(RecipeError) as error:
        graders.build(spec, "tasks.grader")
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("output", "reference", "expected"),
    [
        ("yes", "yes", 1), (" yes\n", "yes", 1), ("yes", "\tyes ", 1),
        ("Yes", "yes", 0), ("y es", "yes", 0), ("", "yes", 0), ("yes.", "yes", 0),
    ],
)  # fmt: skip
def test_exact(output, reference, expected):
    assert score("exact", output, reference) == expected


@pytest.mark.parametrize("name", ["exact", "json_equal"])
@pytest.mark.parametrize("reference", ["", "  \n"])
def test_nothing_to_compare_with_is_an_error_and_not_a_score(name, reference):
    with pytest.raises(ValueError, match="no answer to compare with"):
        score(name, "x", reference)


@pytest.mark.parametrize(
    ("output", "reference", "expected"),
    [
        ('{"a": 1, "b": [true, null]}', '{"b":[true,null],"a":1}', 1),
        ("1", "1.0", 1), ("1e2", "100", 1), ("-0.0", "0", 1),
        ("true", "1", 0), ("1", "true", 0), ("false", "0", 0), ("true", "true", 1),
        ("null", "0", 0), ('"1"', "1", 0), ("[1, 2]", "[2, 1]", 0), ("[1]", "[1, 1]", 0),
        ("{}", "[]", 0), ('{"a": {"b": 1.0}}', '{"a": {"b": 1}}', 1),
        ('{"a": {"b": true}}', '{"a": {"b": 1}}', 0), ('"\\u00e9"', '"é"', 1),
        ("9007199254740993", "9007199254740992.0", 0),
        ('{"a": 1}\n', '{"a": 1}', 1),
        ("NaN", "0", 0), ("[NaN]", "[0]", 0), ("1e999", "0", 0),
        ('{"a": 2, "a": 1}', '{"a": 1}', 0),
        ('```json\n{"a": 1}\n```', '{"a": 1}', 0), ("", "0", 0), ('{"a": 1', '{"a": 1}', 0),
        ("[" * 100_000, "[]", 0), ("9" * 5000, "9", 0),
    ],
)  # fmt: skip
def test_json_equal(output, reference, expected):
    assert score("json_equal", output, reference) == expected
    if not reference.startswith("{"):
        assert score({"type": "json_equal", "fields": True}, output, reference) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ('{"a": 1, "b": 2, "c": 3, "d": 4}', 1.0),
        ('{"d": 4, "c": 3, "b": 2, "a": 0}', 3 / 4),
        ('{"a": 1, "b": 2}', 2 / 4),
        ('{"a": 1, "b": 2, "x": 0}', 2 / 4),
        ('{"a": 1, "b": 2, "c": 3, "d": 4, "x": 0}', 4 / 5),
        ('{"a": 1, "b": 2, "c": 3, "d": 4, "x": 0, "y": 0}', 4 / 5),
        ('{"a": true}', 0.0), ("{}", 0.0), ("[1, 2, 3, 4]", 0.0), ("no", 0.0),
    ],
)  # fmt: skip
def test_json_fields(output, expected):
    spec = {"type": "json_equal", "fields": True}
    assert score(spec, output, '{"a": 1, "b": 2, "c": 3, "d": 4}') == expected


@pytest.mark.parametrize(("output", "expected"), [("{}", 1.0), ('{"a": 1}', 0.0)])
def test_json_fields_of_an_empty_object(output, expected):
    assert score({"type": "json_equal", "fields": True}, output, "{}") == expected


@pytest.mark.parametrize("reference", ["plain text", "NaN", '{"a": 1, "a": 2}'])
def test_a_reference_that_is_not_json_is_an_error(reference):
    with pytest.raises(ValueError, match=r"Expecting value|not JSON|two equal keys"):
        score("json_equal", "{}", reference)


@pytest.mark.parametrize(
    ("operation", "output", "reference", "expected"),
    [
        ("eq", "Paris", "Paris", 1), ("eq", "Paris ", "Paris", 0), ("eq", "paris", "Paris", 0),
        ("ne", "Paris", "Paris", 0), ("ne", "Rome", "Paris", 1),
        ("like", "in Paris.", "Paris", 1), ("like", "in paris.", "Paris", 0),
        ("like", "Par", "Paris", 0),
        ("ilike", "in paris.", "PARIS", 1), ("ilike", "STRASSE", "straße", 1),
        ("ilike", "Rome", "Paris", 0),
    ],
)  # fmt: skip
def test_string_check(operation, output, reference, expected):
    assert score({"type": "string_check", "operation": operation}, output, reference) == expected


def test_string_check_with_the_json_of_openai():
    spec = {
        "type": "string_check",
        "name": "label",
        "operation": "eq",
        "input": "{{ sample.output_json.label }}",
        "reference": "{{ item.gold.label }}",
    }
    row = {"gold": {"label": "spam"}}
    assert score(spec, '{"label": "spam"}', "", row) == 1.0
    assert score(spec, '{"label": "ham"}', "", row) == 0.0


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        # The 22 and 21 characters share 20 in order, all but "sat" for "is" with its s in common.
        ("fuzzy_match", 2 * 20 / (22 + 21)),
        # Clipped n-gram precisions 5/6, 3/5, 1/4 and, none of 3 matching, smoothed to 1/2 of 1/3.
        ("bleu", (5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** 0.25),
        # 5 + 3 + 1 + 0 shared of 6 + 5 + 4 + 3 n-grams, in both texts.
        ("gleu", 9 / 18),
        ("rouge_1", 5 / 6),
        ("rouge_2", 3 / 5),
        ("rouge_3", 1 / 4),
        ("rouge_4", 0.0),
        ("rouge_5", 0.0),
        ("rouge_l", 5 / 6),
    ],
)
def test_text_similarity(measure, expected):
    spec = {"type": "text_similarity", "evaluation_metric": measure}
    got = score(spec, "the cat sat on the mat", "the cat is on the mat")
    assert math.isclose(got, expected, abs_tol=1e-9)


def test_text_similarity_is_fuzzy_match_by_default():
    # "kitten" and "sitting" share "ittn": 2 * 4 of 13 characters.
    assert math.isclose(score("text_similarity", "kitten", "sitting"), 8 / 13)


@pytest.mark.parametrize("measure", ["fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_l"])
@pytest.mark.parametrize(("output", "row_text", "expected"), [("", "a b", 0), ("a", " ", 0), (" ", "", 1)])  # fmt: skip  # noqa: E501
def test_an_empty_text_is_like_an_empty_one_only(measure, output, row_text, expected):
    spec = {"type": "text_similarity", "evaluation_metric": measure, "reference": "{{item.text}}"}
    assert score(spec, output, "", {"text": row_text}) == expected


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("a b c d e f", "a b c d e f"),
        ("it is a guide to action which", "it is the guide to action that"),
        ("a a a a", "a a"),
        ("x", "a b c d e"),
        ("a b c", "c b a a b c d e f g"),
    ],
)
def test_gleu_is_that_of_nltk(text, reference):
    expected = sentence_gleu([reference.split()], text.split())
    assert math.isclose(gleu(text.split(), reference.split()), expected)
