"""Writes docs/recipe.md from the recipe's own models: `python docs/make_recipe_page.py`.

A test fails when the page is not what this prints.
"""

from pathlib import Path
from typing import Any

from tunesmith.recipe import json_schema

PAGE = Path(__file__).parent / "recipe.md"
HEAD = """# The recipe

Made by `python docs/make_recipe_page.py` from the models in the code; do not edit by hand.

One YAML file says a whole run. Unknown keys are errors. Any key can be changed on the command line:
`tunesmith train recipe.yaml train.learning_rate=1e-4`. Paths are relative to the folder you are in;
the recipe in the run folder has them absolute and every default written out.
"""


def page() -> str:
    """The whole page."""
    schema = json_schema()
    parts = [HEAD]
    for name, section in schema["properties"].items():
        parts.append(f"\n## `{name}`\n\n{section.get('description', '')}\n")
        choices = section.get("anyOf") or [section]
        for choice in choices:
            reference = choice.get("$ref", "").rpartition("/")[2]
            definition = schema["$defs"][reference]
            if len(choices) > 1:
                parts.append(f"\n### `{name}.name: {reference.partition('_')[2]}`\n")
            parts.append(table(definition))
    for reference in ("Source", "Mix", "Replay", "TaskSpec", "Reward"):
        parts.append(f"\n## One `{reference}`\n\n{schema['$defs'][reference]['description']}\n")
        parts.append(table(schema["$defs"][reference]))
    return "".join(parts)


def table(definition: dict[str, Any]) -> str:
    """The keys of one section."""
    rows = ["\n| key | takes | default | what it does |\n|---|---|---|---|\n"]
    for key, field in definition["properties"].items():
        what = " ".join(field.get("description", "").split())
        default = "needed" if key in definition.get("required", []) else shown(field["default"])
        rows.append(f"| `{key}` | {takes(field)} | {default} | {what} |\n")
    return "".join(rows)


def takes(field: dict[str, Any]) -> str:
    """What a key accepts, in words."""
    if "anyOf" in field:
        return " or ".join(takes(choice) for choice in field["anyOf"])
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "$ref" in field:
        return f"a {field['$ref'].rpartition('/')[2]}"
    if field.get("type") == "array":
        return f"list of {takes(field.get('items', {}))}"
    names = {
        "string": "text",
        "integer": "whole number",
        "boolean": "true, false",
        "object": "keys",
    }
    return names.get(field.get("type", ""), field.get("type", "any"))


def shown(value: Any) -> str:
    """A default, as YAML has it."""
    if value is None:
        return "null"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
