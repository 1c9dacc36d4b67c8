"""A whole run in miniature: a tiny base in a folder, a few rows, and a recipe over them."""

import json
from pathlib import Path

import pytest

from tests.methods.example_rows import needed_keys, rows_for
from tunesmith.data.template import Renderer
from tunesmith.methods import base as methods
from tunesmith.recipe import from_dict
from tunesmith.testing.tiny import IM_END, byte_tokenizer, tiny_base


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A folder with the tiny base."""
    return tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture
def rows(tmp_path) -> Path:
    """24 rows of prompt and completion, of different lengths."""
    path = tmp_path / "rows.jsonl"
    lines = [
        json.dumps({"prompt": "say " + "x" * (i % 5), "completion": f"{i % 7}" * (1 + i % 3)})
        for i in range(24)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def recipe_data(tiny_folder, rows, tmp_path, monkeypatch):
    """Plain dicts of a recipe that trains in seconds; tests change what they need."""
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    return {
        "model": {"base": str(tiny_folder)},
        "data": {"train": str(rows), "eval": str(rows), "max_tokens": 128},
        "adapter": {"name": "lora", "rank": 4, "dropout": 0.1},
        "train": {
            "epochs": 2,
            "batch_rows": 2,
            "accumulate": 2,
            "learning_rate": 1e-2,
            "precision": "fp32",
        },
        "evaluate": {
            "every": 5,
            "tasks": [{"path": str(rows), "grader": "exact", "max_new_tokens": 4, "limit": 4}],
            "probes": [],
        },
        "checkpoint": {"every": 1, "keep": 3},
        "output": {"dir": str(tmp_path / "runs" / "tiny")},
    }


@pytest.fixture
def make(recipe_data):
    """Build a recipe from the tiny one with dotted changes."""

    def build(**changes):
        data = json.loads(json.dumps(recipe_data))
        for key, value in changes.items():
            section, _, name = key.partition("__")
            if name:
                data.setdefault(section, {})[name] = value
            else:
                data[section] = value
        return from_dict(data)

    return build


@pytest.fixture
def of_method(make, tiny_folder, tmp_path):
    """A recipe of some method over rows that it reads, as a function of its name and changes."""

    def build(name: str, **changes):
        method = methods.load(name)
        keys = needed_keys(method.Config, str(tiny_folder))
        renderer = Renderer(byte_tokenizer(), frozenset({IM_END}))
        shapes = frozenset(method.encoder(renderer, method.Config(**keys)).shapes)
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows_for(shapes) * 4))
        usual = {
            "method": {"name": name, **keys},
            "data__train": str(path),
            "data__eval": None,
            "evaluate__tasks": [],
            "adapter__dropout": 0.0,
        }
        return make(**{**usual, **changes})

    return build
