"""find-lr trains, suggests, draws, and leaves no run."""

from math import isfinite
from pathlib import Path

import pytest

from tunesmith.api.find_lr import find_lr
from tunesmith.cli.main import build
from tunesmith.engine.range_test import Rising
from tunesmith.errors import CommandError
from tunesmith.methods import base as methods
from tunesmith.recipe import to_yaml


def test_the_curve_of_a_tiny_recipe(make, tmp_path):
    recipe = make(evaluate__tasks=[], data__eval=None, train__learning_rate=None)
    before = sorted(tmp_path.rglob("*.safetensors"))
    found = find_lr(recipe, rates=Rising(1e-4, 10.0, 8))
    points = found["points"]
    assert points[0]["rate"] == pytest.approx(1e-4)
    # B is zero before the first update, and its rows are those that the start was measured on.
    assert points[0]["loss"] == pytest.approx(points[0]["start"], abs=1e-6)
    assert min(point["smoothed"] for point in points) < -0.02
    assert found["suggested"] in (found["steepest"], (found["diverged"] or 0) / 10)
    assert found["usual_source"].startswith("LoRA Without Regret")
    picture = Path(found["plot"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.name == "tiny-find-lr.png"
    assert not Path(recipe.output.dir).exists()
    assert sorted(tmp_path.rglob("*.safetensors")) == before


def test_the_same_from_the_command_line(make, tmp_path, capsys):
    path, plot = tmp_path / "recipe.yaml", tmp_path / "a.png"
    path.write_text(to_yaml(make(evaluate__tasks=[], adapter__dropout=0.0)))
    arguments = [str(path), "--steps", "5", "--low", "0.001", "--high", "0.1", "--plot", str(plot)]
    build()(["find-lr", *arguments], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "change, smoothed" in shown
    assert "train.learning_rate=" in shown or "the loss hardly fell" in shown
    assert plot.is_file()


@pytest.mark.parametrize("rates", [Rising(1e-3, 1e-4, 10), Rising(0.0, 1.0, 10), Rising(1, 2, 4)])
def test_rates_that_do_not_rise_are_refused(make, rates):
    with pytest.raises(CommandError, match="expected at least 5 steps"):
        find_lr(make(), rates=rates)


@pytest.mark.parametrize("method", methods.names())
def test_every_method_is_tested_or_refused_with_a_reason(of_method, method):
    recipe, rates = of_method(method), Rising(1e-4, 1e-1, 6)
    if "sampler" in methods.load(method).NEEDS:
        with pytest.raises(CommandError, match="which draws the answers that it trains on"):
            find_lr(recipe, rates=rates)
    else:
        assert all(isfinite(point["loss"]) for point in find_lr(recipe, rates=rates)["points"])
