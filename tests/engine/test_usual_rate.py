"""The rate that `auto` stands for, by hand."""

import json

import pytest

from tunesmith.adapters import full, lora
from tunesmith.api.resolve import resolve, source_of_rate
from tunesmith.engine.usual_rate import usual_rate
from tunesmith.errors import RecipeError
from tunesmith.models.shape import Shape, shape_of
from tunesmith.recipe import from_dict
from tunesmith.testing.tiny import tiny_base


@pytest.mark.parametrize(
    ("adapter", "config", "shape", "expected"),
    [
        # 5e-5, and ten times that.
        (full, full.Config(), Shape("llama", 2000), 5e-5),
        (lora, lora.Config(rank=16), Shape("llama", 2000), 5e-4),
        # (2000 / 4096)^0.781 = 0.571; ^0.0775 = 0.946.
        (full, full.Config(), Shape("llama", 4096), 2.9e-5),
        (full, full.Config(), Shape("qwen3", 4096), 4.7e-5),
        (full, full.Config(), Shape("unheard_of", 4096), 4.7e-5),
        # Alpha 32 whatever the rank is the paper's own scale; a scale of 2 is a half of 32 / 8.
        (lora, lora.Config(rank=64, alpha=32), Shape("llama", 2000), 5e-4),
        (lora, lora.Config(rank=1, alpha=32), Shape("llama", 2000), 5e-4),
        (lora, lora.Config(rank=8), Shape("llama", 2000), 1e-3),
        # 40 / root of 16 is a scale of 10, five times the paper's; a ratio of 2 for B.
        (lora, lora.Config(rank=16, alpha=40, scaling="rslora"), Shape("llama", 2000), 1e-4),
        (lora, lora.Config(rank=16, plus_ratio=2), Shape("llama", 2000), 2.5e-4),
    ],
)
def test_the_formula_by_hand(adapter, config, shape, expected):
    found = usual_rate(adapter, config, shape)
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert "LoRA Without Regret" in found.source
    assert ("not swept" in found.source) == (shape.model_type == "unheard_of")


def test_an_adapter_without_a_multiple_has_its_own_rate():
    class Other:
        __name__ = "tunesmith.adapters.other"
        LEARNING_RATE = 3e-3

    found = usual_rate(Other(), full.Config(), Shape("llama", 2000))
    assert (found.value, found.source) == (3e-3, "the usual rate of adapter other")


def test_the_shape_of_a_folder(tmp_path):
    assert shape_of(str(tiny_base(tmp_path / "base")), None) == Shape("llama", 64)


@pytest.mark.parametrize("rate", [None, "auto", 1e-5])
def test_an_open_rate_is_resolved_and_its_source_is_told(tmp_path, rate):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    data = {
        "model": {"base": str(tiny_base(tmp_path / "base"))},
        "data": {"train": str(rows)},
        "train": {"learning_rate": rate, "precision": "fp32"},
    }
    recipe = resolve(from_dict(data))
    # 5e-4 (2000 / 64)^0.781 = 7.35e-3.
    assert recipe.train.learning_rate == (1e-5 if rate == 1e-5 else pytest.approx(7.4e-3))
    assert resolve(recipe) == recipe
    source = source_of_rate(recipe)
    assert source == "the recipe" if rate == 1e-5 else "x (2000 / 64)^0.781 x 10" in source


@pytest.mark.parametrize("rate", ["fast", 0, -1.0])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(RecipeError, match=r"recipe: train\.learning_rate: got"):
        from_dict(
            {"model": {"base": "b"}, "data": {"train": "t"}, "train": {"learning_rate": rate}}
        )
