"""The report on a terminal."""

import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tunesmith.runs.folder import RunFolder
from tunesmith.runs.report.terminal import render
from tunesmith.testing.fake_run import fake_run


def shown(folder: RunFolder, width: int = 100) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(render(folder))
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def test_the_whole_report(tmp_path: Path) -> None:
    text = shown(fake_run(tmp_path / "run"))
    assert text.startswith("tickets  succeeded\nScore on tickets rose from 0.0 % to 91.5 %")
    assert re.search(r"tickets \(200 rows\) +0.0 %   91.5 %  \+91.5 +\+87.0 to \+95.0", text)
    assert "before (0.0 %)   I'm sorry to hear" in text
    assert "2 more rows in report.html" in text
    assert f"Talk to it: tunesmith chat {tmp_path}/run" in text.replace("\n", "")


@pytest.mark.parametrize("ending", ["succeeded", "failed", "interrupted", "killed"])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, ending: str, width: int) -> None:
    text = shown(fake_run(tmp_path / "run", ending), width)
    assert max(map(len, text.split("\n"))) <= width
    assert "None" not in text


def test_square_brackets_of_users_are_text(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run")
    folder.samples.write_text(
        '[{"prompt": "[bold]x[/bold] \\u001b[2J", "before": "", "after": "y"}]'
    )
    text = shown(folder)
    assert "[bold]x[/bold] ␛[2J" in text
    assert "\x1b" not in text


def test_a_run_that_was_interrupted_says_how_to_go_on(tmp_path: Path) -> None:
    text = shown(fake_run(tmp_path / "run", "interrupted"), 300)
    assert "The run was interrupted after step 80 of 125: Ctrl-C" in text
    assert f"go on with: tunesmith resume {tmp_path}/run" in text
