"""Recipes that fuzzing found to hang or to break the reader."""

import time

import pytest

from tunesmith.config.check import did_you_mean
from tunesmith.config.yaml_file import parse_yaml
from tunesmith.errors import RecipeError
from tunesmith.recipe import from_dict


@pytest.mark.parametrize("text", ["[" * 30_000, "- " * 30_000, "{a: " * 30_000])
def test_endless_nesting_is_refused_at_once(text: str) -> None:
    begin = time.process_time()
    with pytest.raises(RecipeError, match="more than 32 levels") as caught:
        parse_yaml(text, "recipe.yaml")
    assert caught.value.where.startswith("recipe.yaml:1")
    assert time.process_time() - begin < 1.0


def test_ordinary_nesting_is_read() -> None:
    assert parse_yaml("[" * 32 + "]" * 32, "recipe.yaml") is not None


def test_a_character_that_yaml_forbids_is_an_error_with_its_file() -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml: got .*special characters"):
        parse_yaml("a: \x00", "recipe.yaml")


def test_a_long_key_is_refused_at_once_and_shown_in_part() -> None:
    begin = time.process_time()
    with pytest.raises(RecipeError) as caught:
        from_dict({"data": {"train": "x", "x" * 30_000: 1}})
    assert time.process_time() - begin < 2.0
    assert len(str(caught.value)) < 400
    assert did_you_mean("x" * 30_000, ["x" * 29_999]) == ""
    assert did_you_mean("trian", ["train"]) == "did you mean train?"


def test_a_number_too_long_to_write_is_an_error() -> None:
    with pytest.raises(RecipeError, match="a number with thousands of digits"):
        from_dict({"model": {"base": 16**5000}, "data": {"train": "x"}})


@pytest.mark.parametrize(
    "value", ["!!int ''", "!!bool maybe", "!!float x", "!!timestamp x", "2026-13-45", "0x_"]
)
def test_a_value_that_is_not_of_its_kind_is_an_error_with_its_line(value: str) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml:2: got a value that is no "):
        parse_yaml(f"a: 1\nb: {value}\n", "recipe.yaml")
