import pytest

from tunesmith.errors import RecipeError
from tunesmith.evaluate import graders

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 2}, "tags": {"$ref": "#/$defs/tags"}},
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"tags": {"type": "array", "items": {"enum": ["a", "b"]}}},
}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ('{"city": "Rome"}', 1), ('{"city": "Rome", "tags": ["a"]}', 1), ('{"city": "R"}', 0),
        ('{"city": "Rome", "tags": ["c"]}', 0), ('{"city": 3}', 0), ("{}", 0), ("[]", 0),
        ('{"city": "Rome", "x": 1}', 0), ("Rome", 0), ("", 0), ('{"city": "Rome"', 0),
        ('{"city": "Rome", "city": "Rom"}', 0), ('{"city": NaN}', 0), ("[" * 100_000, 0),
        ('```json\n{"city": "Rome"}\n```', 0),
    ],
)  # fmt: skip
def test_the_schema_decides(output, expected):
    assert graders.build({"type": "json_schema", "json_schema": CITY})(output, "", {}) == expected


def test_the_schema_stands_in_the_row_as_json_or_text():
    grader = graders.build({"type": "json_schema", "json_schema": "{{item.schema}}"})
    assert grader("3", "", {"schema": {"type": "integer"}}) == 1
    assert grader('"3"', "", {"schema": '{"type": "integer"}'}) == 0
    with pytest.raises(ValueError, match="a JSON Schema, not 3"):
        grader.check("", {"schema": 3})


def test_an_older_draft_counts_where_the_schema_names_it():
    old = {"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 3,
           "exclusiveMaximum": True}  # fmt: skip
    grader = graders.build({"type": "json_schema", "json_schema": old})
    assert (grader("3", "", {}), grader("2", "", {})) == (0, 1)


def test_a_part_of_the_output_is_checked():
    spec = {"type": "json_schema", "input": "{{sample.output_json.a}}",
            "json_schema": {"type": "integer"}}  # fmt: skip
    assert graders.build(spec)('{"a": 3}', "", {}) == 1
    assert graders.build(spec)('{"a": [3]}', "", {}) == 0


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "objekt"}, "a JSON Schema; at type: 'objekt' is not valid under any"),
        ({"required": "a"}, "a JSON Schema; at required: 'a' is not of type 'array'"),
        ({"properties": {"a": {"minimum": "1"}}}, "at properties/a/minimum: '1' is not of type"),
        (3, "got 3 (int)"),
    ],
)  # fmt: skip
def test_what_is_no_schema_is_an_error(schema, text):
    with pytest.raises(RecipeError) as error:
        graders.build({"type": "json_schema", "json_schema": schema})
    assert text in str(error.value)


def test_nothing_is_fetched():
    spec = {"type": "json_schema", "json_schema": {"$ref": "http://127.0.0.1:1/schema"}}
    with pytest.raises(ValueError, match="a reference that leads nowhere"):
        graders.build(spec)("3", "", {})
