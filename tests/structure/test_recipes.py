"""Every recipe that is shipped reads."""

from pathlib import Path

import pytest

from tunesmith import recipe

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "recipes").rglob("*.y*ml"))


def test_there_are_recipes() -> None:
    assert ROOT / "recipes" / "quickstart.yaml" in FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_recipe_reads(path: Path) -> None:
    assert recipe.read(path).model.base


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_recipe_names_files_that_are_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    read = recipe.read(path)
    sources = (*read.data.train_sources, *read.data.eval_sources)
    tasks = [task.path for task in read.evaluate.tasks]
    named = [*(source.path for source in sources), *tasks]
    assert [name for name in named if not Path(name).exists()] == []
