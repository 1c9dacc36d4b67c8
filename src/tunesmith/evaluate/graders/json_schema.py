"""1 when the output is JSON that a JSON Schema accepts, else 0.

The drafts of the library `jsonschema`: the one that `$schema` names, else 2020-12. `format` is an
annotation, as there. References lead within the schema only; nothing is fetched. JSON is read as in
`json_equal`.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import field_validator

from tunesmith.config.section import Section
from tunesmith.evaluate.json_values import parse
from tunesmith.evaluate.templates import Template, look_up


class Config(Section):
    """A text and the schema that it must follow."""

    type: Literal["json_schema"] = "json_schema"
    name: str = ""
    """What reports call it."""
    input: Template = "{{sample.output_text}}"
    """The text that must be such JSON."""
    json_schema: dict[str, Any] | Template
    """The schema itself, or a place in the row that has it, as {{item.schema}}."""

    @field_validator("json_schema")
    @classmethod
    def _is_a_schema(cls, schema: Any) -> Any:
        if isinstance(schema, dict):
            _validator(schema)
        return schema


def check(config: Config, reference: str, row: Mapping[str, Any]) -> None:
    """Raise where the row has no schema, or one that is none."""
    _validator(_schema(config, reference, reference, row))


def grade(config: Config, output: str, reference: str, row: Mapping[str, Any]) -> float:
    """1.0 or 0.0; a ValueError when the schema is none."""
    from referencing.exceptions import Unresolvable

    validator = _validator(_schema(config, output, reference, row))
    text = look_up(config.input, output, reference, row)
    try:
        return float(validator.is_valid(parse(text) if isinstance(text, str) else text))
    except Unresolvable as error:
        raise ValueError(f"a schema with a reference that leads nowhere: {error}") from error
    # The parser and the validator go as deep as the output; one too deep to read is a wrong one.
    except (ValueError, RecursionError):
        return 0.0


def _schema(config: Config, output: str, reference: str, row: Mapping[str, Any]) -> Any:
    if isinstance(config.json_schema, dict):
        return config.json_schema
    found = look_up(config.json_schema, output, reference, row)
    return parse(found) if isinstance(found, str) else found


def _validator(schema: Any) -> Any:
    """What checks against `schema`; a ValueError when that is no JSON Schema."""
    from jsonschema import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from jsonschema_specifications import REGISTRY

    if not isinstance(schema, dict | bool):
        raise ValueError(f"a JSON Schema, not {str(schema)[:60]}")
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        place = "/".join(map(str, error.absolute_path)) or "its top"
        raise ValueError(f"a JSON Schema; at {place}: {error.message[:200]}") from error
    return kind(schema, registry=REGISTRY)
