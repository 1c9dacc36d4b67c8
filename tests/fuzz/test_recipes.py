"""Whatever is in a recipe: a recipe, or an error that names file and key."""

import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.fuzzed import answers, fuzzed
from tests.fuzz.strategies import TEXTS, VALUES, with_byte_faults, with_faults
from tunesmith.recipe import Recipe, from_dict, read, to_yaml

RECIPES: list[dict[str, Any]] = [
    {"model": {"base": "starter"}, "data": {"train": "rows.jsonl"}},
    {
        "model": {"base": "b", "revision": "main", "quantize": "none", "dtype": "bf16"},
        "data": {
            "train": [{"path": "a.jsonl", "weight": 0.5, "format": "chat"}],
            "eval": "b.jsonl",
            "max_tokens": 64,
            "overlong": "drop",
            "train_on": "last",
        },
        "adapter": {"name": "lora", "rank": 4, "alpha": 8},
        "method": {"name": "sft"},
        "train": {"steps": 3, "learning_rate": 1e-4, "optimizer": "adamw", "warmup": 0.1},
        "evaluate": {
            "every": 2,
            "tasks": [{"path": "t.jsonl", "grader": "exact", "max_new_tokens": 4}],
            "probes": ["general"],
        },
        "checkpoint": {"every": 1, "keep": 2},
        "output": {"dir": "runs/x"},
    },
    {
        "model": {"base": "b"},
        "data": {"train": "rows.jsonl"},
        "adapter": {"name": "full"},
        "train": {"epochs": 1.5, "batch_tokens": 512},
        "evaluate": {
            "tasks": [
                {
                    "path": "t.jsonl",
                    "grader": {
                        "type": "text_similarity",
                        "input": "{{sample.output_text}}",
                        "reference": "{{item.answer}}",
                        "evaluation_metric": "bleu",
                    },
                }
            ]
        },
    },
]

PATHS = [
    "train.learning_rate",
    "adapter.rank",
    "data.train",
    "data.train.0.path",
    "evaluate.tasks.0.grader",
    "model.base",
    "output.dir",
    "a.b.c",
    "data.train.9",
    "adapter.name",
    "method.name",
    "train",
]
OVERRIDES = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.builds(
            "{}={}".format,
            st.sampled_from(PATHS),
            st.one_of(TEXTS, VALUES.map(repr), st.sampled_from(["1e-4", "null", "[]", "{}", ""])),
        ),
    ),
    max_size=3,
)
YAML_PIECES = st.sampled_from(
    [
        *("&a [*a]", "!!python/object:os.system x", "!!binary x", "!!timestamp x", "!!set {a}"),
        *("2026-13-45", "2026-11-24", "0x_", "1:99:99", "<<: 3", "!!omap [a]", "=", "---\n"),
        *("[" * 3000, "- " * 3000, "\x00", "\x85", "!!float x", "!!int ''", "{[a]: 1}", "%YAML 9"),
        *("? [a]", "!!bool maybe", "0x" + "f" * 5000, "!!str", "!!null x", "!!pairs [a]"),
    ]
)


def check_recipe(found: object) -> None:
    """A recipe that was accepted can be written and read back."""
    if isinstance(found, Recipe):
        assert from_dict(yaml.safe_load(to_yaml(found))) == found


@fuzzed
@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_any_mapping(data: dict[str, Any]) -> None:
    check_recipe(answers(lambda: from_dict(data), "recipe", "method.name", "adapter.name"))


@fuzzed
@given(with_faults(RECIPES))
def test_nearly_valid(data: dict[str, Any]) -> None:
    check_recipe(answers(lambda: from_dict(data), "recipe", "method.name", "adapter.name"))


def as_yaml(data: dict[str, Any], pieces: list[str]) -> bytes:
    """A recipe as YAML with odd pieces for some of its values."""
    try:
        text = yaml.safe_dump(data, allow_unicode=True)
    except (yaml.YAMLError, RecursionError):
        text = "model: {base: b}\n"
    lines = text.splitlines()
    for number, piece in enumerate(pieces):
        key = lines[(7 * number) % len(lines)].partition(":")[0] if lines else "a"
        lines.insert((3 * number) % (len(lines) + 1), f"{key}: {piece}")
    return "\n".join(lines).encode("utf-8", "surrogatepass")


FILES = st.builds(as_yaml, with_faults(RECIPES), st.lists(YAML_PIECES, max_size=2))


@fuzzed
@given(with_byte_faults(FILES), OVERRIDES)
def test_a_file_with_overrides(content: bytes, overrides: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_bytes(content)
        named = (str(path), "override", "method.name", "adapter.name")
        check_recipe(answers(lambda: read(path, overrides), *named))
