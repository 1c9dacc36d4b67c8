"""The recipe: the whole of a run in one YAML file, read into a frozen, checked model.

Each section's model lives with its owner; the names of the adapter and the method pick the file
whose `Config` types that section. Nothing is defaulted silently: what the user left out is written
into the run folder with its value (`resolve` in api.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import SerializeAsAny

from tunesmith.adapters import base as adapters
from tunesmith.checkpoint.section import CheckpointSection
from tunesmith.config.check import check
from tunesmith.config.overrides import apply_overrides
from tunesmith.config.section import Section
from tunesmith.config.yaml_file import read_yaml
from tunesmith.data.section import DataSection
from tunesmith.engine.section import TrainSection
from tunesmith.errors import RecipeError
from tunesmith.evaluate.section import EvaluateSection
from tunesmith.methods import base as methods
from tunesmith.models.section import ModelSection
from tunesmith.runs.section import OutputSection


class Recipe(Section):
    """A whole run: base, rows, adapter, method, training, measures, checkpoints, output."""

    model: ModelSection
    """Which base a run starts from."""
    data: DataSection
    """Which rows it learns from."""
    adapter: SerializeAsAny[Section]
    """What is trained; its `name` is a file in adapters/."""
    method: SerializeAsAny[Section]
    """How the loss is made; its `name` is a file in methods/."""
    train: TrainSection = TrainSection()
    """How long and with what numbers."""
    evaluate: EvaluateSection = EvaluateSection()
    """What is measured and what may not be lost."""
    checkpoint: CheckpointSection = CheckpointSection()
    """When the run is saved."""
    output: OutputSection = OutputSection()
    """Where the run folder is."""


def read(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply dotted overrides.

    Args:
        path: A YAML file.
        overrides: Texts `section.key=value`, the value in YAML.

    Raises:
        RecipeError: Anything that is not exactly a recipe; the message names file and key.
    """
    path = Path(path)
    data = apply_overrides(read_yaml(path), overrides)
    output = data.setdefault("output", {})
    if isinstance(output, dict) and output.get("dir") is None:
        output["dir"] = str(Path("runs") / path.stem)
    return from_dict(data, str(path))


def from_dict(data: dict[str, Any], where: str = "recipe") -> Recipe:
    """Build a recipe from plain dicts, as `read` does from a file; `where` names it in errors.

    The adapter defaults to `lora` and the method to `sft`.

    Raises:
        RecipeError: As `read`.
    """
    whole = dict(data)
    whole["adapter"] = _named(whole.get("adapter", {}), "adapter", "lora", where)
    whole["method"] = _named(whole.get("method", {}), "method", "sft", where)
    return check(Recipe, whole, where)


def to_yaml(recipe: Recipe) -> str:
    """The recipe as YAML, every key written out; `from_dict` of it gives the same recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def json_schema() -> dict[str, Any]:
    """JSON Schema of the recipe for editors: every adapter's and method's keys included."""
    schema = Recipe.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    for key, folder in (("adapter", adapters), ("method", methods)):
        choices = []
        for name in folder.names():
            part = folder.load(name).Config.model_json_schema()
            definitions.update(part.pop("$defs", {}))
            definitions[f"{key}_{name}"] = part
            choices.append({"$ref": f"#/$defs/{key}_{name}"})
        description = schema["properties"][key].get("description", "")
        schema["properties"][key] = {"anyOf": choices, "description": description}
    definitions.pop("Section", None)
    schema["required"] = ["model", "data"]
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Tunesmith recipe"
    return schema


def _named(part: Any, key: str, default: str, where: str) -> Section:
    """Check the section `key` against the Config of the file that its `name` picks."""
    if isinstance(part, Section):
        return part
    if not isinstance(part, dict):
        raise RecipeError(
            f"{where}: {key}", got=repr(part), expected=f"a mapping such as {{name: {default}}}"
        )
    name = part.get("name", default)
    if not isinstance(name, str):
        raise RecipeError(f"{where}: {key}.name", got=repr(name), expected="a name")
    folder = adapters if key == "adapter" else methods
    return check(folder.load(name).Config, part, where, prefix=key)
