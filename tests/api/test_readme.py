"""The Python lines of the README, run as they stand on a small recipe."""

import re
import runpy
from pathlib import Path

from tunesmith.recipe import to_yaml

README = Path(__file__).parents[2] / "README.md"


def test_the_python_lines_run(make, tmp_path, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.strip().splitlines()) <= 10
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(to_yaml(make()))
    script = tmp_path / "lines.py"
    script.write_text(code.replace("recipes/quickstart.yaml", str(recipe)))
    runpy.run_path(str(script))
    task, _, export = capsys.readouterr().out.strip().rpartition("\n")
    assert "'gain'" in task
    assert Path(export, "model.safetensors").is_file()
