import pytest

from tunesmith.errors import RecipeError
from tunesmith.evaluate.templates import check_template, fill, places

ROW = {"a": "x", "n": 3, "deep": {"b": [10, {"c": None}]}, "flag": True, "two words": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("{{sample.output_text}}", "out"),
        ("{{ sample.output_text }}!", "out!"),
        ("{{item.a}}-{{item.n}}", "x-3"),
        ("{{item.deep.b[0]}}", "10"),
        ("{{item.deep.b.0}}", "10"),
        ("{{item.deep.b[1].c}}", "null"),
        ("{{item.deep}}", '{"b": [10, {"c": null}]}'),
        ("{{item.flag}}", "true"),
        ("{{item.reference}}|{{item.reference_answer}}", "ref|ref"),
        ('{"a": {"b": 1}}', '{"a": {"b": 1}}'),
    ],
)
def test_fill(text, expected):
    assert fill(check_template(text), "out", "ref", ROW) == expected


def test_braces_in_the_users_text_are_not_filled_again():
    assert fill("{{item.a}}", "out", "ref", {"a": "{{sample.output_text}}"}) == (
        "{{sample.output_text}}"
    )
    assert fill("{{sample.output_text}}", "{{item.secret}}", "", {"secret": 1}) == "{{item.secret}}"


def test_a_row_with_its_own_reference_answer_keeps_it():
    assert fill("{{item.reference_answer}}", "", "ref", {"reference_answer": "own"}) == "own"


def test_output_json():
    assert fill("{{sample.output_json.k[1]}}", '{"k": [1, "v"]}', "", {}) == "v"
    with pytest.raises(ValueError, match="Expecting value"):
        fill("{{sample.output_json.k}}", "no json", "", {})


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("item.aa", "got {{item.aa}}, a path that leads nowhere; expected a key that item has: "
                    "a, deep, flag, n, reference, reference_answer, two words\nhint: did you mean"),
        ("item.a.b", "{{item.a.b}}, a path that leads nowhere; expected a path that ends at "),
        ("item.deep.b[2]", "expected a place in item.deep.b, which has 2"),
        ("item.deep.b.x", "expected a place in item.deep.b, which has 2"),
        ("sample.choice", "expected a key that sample has: choices, output_json, output_text"),
    ],
)  # fmt: skip
def test_a_path_that_leads_nowhere_is_named(path, text):
    with pytest.raises(RecipeError) as error:
        fill(f"{{{{{path}}}}}", "out", "ref", ROW)
    assert text in str(error.value)


def test_a_row_without_an_answer_has_no_reference_to_fill_in():
    with pytest.raises(RecipeError, match="item.reference_answer"):
        fill("{{item.reference_answer}}", "out", "", ROW)


@pytest.mark.parametrize(
    "text",
    ["{{x}}", "{{item.a + 1}}", "{{item|upper}}", "{{ }}", "{{item.__class__()}}", "{{item['a']}}",
     "{{item.a", "{% if a %}{{x}}"],
)  # fmt: skip
def test_what_is_no_path_is_refused_before_any_row_is_read(text):
    with pytest.raises(ValueError, match=r"a path such as item\.answer|a }} for every {{"):
        check_template(text)


def test_places():
    assert places("{{ item.a }} and {{sample.output_text}}") == ["item.a", "sample.output_text"]
