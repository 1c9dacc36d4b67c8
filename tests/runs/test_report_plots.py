"""The drawings: what is drawn, and in which ink."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith.runs.report import plots
from tunesmith.runs.report.material import Material
from tunesmith.testing.fake_run import fake_run


@pytest.fixture
def material(tmp_path: Path) -> Material:
    return Material.read(fake_run(tmp_path / "run"))


def titles(material: Material) -> list[str]:
    return [plot.title.split(",")[0] for plot in plots.plots(material)]


def test_there_is_a_drawing_for_all_that_was_measured(material: Material) -> None:
    assert titles(material) == ["Loss", "Score", "KL from the base", "Learning rate"]


def test_without_measures_only_training_is_drawn(tmp_path: Path) -> None:
    plain = Material.read(fake_run(tmp_path / "plain", measured=False))
    assert titles(plain) == ["Loss", "Learning rate"]


def test_a_run_that_took_no_step_has_no_drawing(material: Material) -> None:
    nothing = replace(material.timeline, steps=[], evaluations=[])
    assert plots.plots(replace(material, timeline=nothing)) == []


def test_text_stays_text_in_the_ink_of_the_page(material: Material) -> None:
    loss, _, forgetting, _ = plots.plots(material)
    assert re.search(r"<text[^>]*>held out</text>", loss.svg)
    assert re.search(r"<text[^>]*>budget 0.2</text>", forgetting.svg)
    assert "currentColor" in loss.svg
    assert plots.INK not in loss.svg
    assert "DejaVu" not in loss.svg
    assert "#ffffff" not in loss.svg
    assert loss.svg.startswith('<svg role="img" aria-label="Loss, in nats per trained token"')


def test_a_rejected_step_is_marked_and_not_in_the_line(material: Material) -> None:
    assert ">rejected</text>" in plots.plots(material)[0].svg
    calm = [step for step in material.timeline.steps if not step["rejected"]]
    quiet = replace(material, timeline=replace(material.timeline, steps=calm))
    assert ">rejected</text>" not in plots.plots(quiet)[0].svg


def test_long_runs_are_thinned_to_means() -> None:
    assert plots.thinned([1.0, 3.0]) == [1.0, 3.0]
    thin = plots.thinned([float(value) for value in range(100_000)])
    assert len(thin) == plots.MAX_POINTS
    assert thin[0] == sum(range(250)) / 250
    assert plots.thinned([]) == []


def test_the_smoothed_line_does_not_lag() -> None:
    line = [float(value) for value in range(160)]
    assert plots.smoothed(line) == pytest.approx(line)
    jagged = [value + (-1) ** index for index, value in enumerate(line)]
    assert plots.smoothed(jagged)[5:-5] == pytest.approx(line[5:-5], abs=0.2)
    assert plots.smoothed([]) == []
