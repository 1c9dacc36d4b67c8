"""Trains recipes in processes of their own, as `tunesmith train` does, and reads their reports."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def train(
    recipe: Path, threads: int | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a recipe to its end, well or not.

    Args:
        recipe: File of it.
        threads: Of its products; None for as many as torch takes.
        cwd: Folder that its paths start from; None for this process's own.

    Returns:
        Exit code, and what it printed.
    """
    command = [sys.executable, "-m", "tunesmith.cli.main", "train", str(recipe), "--json"]
    given = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    variables = {**os.environ, **given}
    return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=cwd)


def report(folder: Path) -> dict[str, Any]:
    """What a run that ended says of itself in `report.json`."""
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))
