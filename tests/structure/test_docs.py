"""Pages made from the code are up to date, and the README keeps its length."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_recipe_page_is_what_the_code_says():
    made = runpy.run_path(str(ROOT / "docs" / "make_recipe_page.py"))
    hint = "run: python docs/make_recipe_page.py"
    assert (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8") == made["page"](), hint


def test_the_readme_is_at_most_200_lines():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
