"""What a report is read from: the folder alone, also when part of it is missing or damaged."""

from pathlib import Path

import pytest

from tunesmith.errors import CommandError
from tunesmith.runs.report.material import Material
from tunesmith.testing.fake_run import fake_run


def test_events_stand_in_for_a_report_that_was_never_written(tmp_path: Path) -> None:
    report = Material.read(fake_run(tmp_path / "run", "killed")).report
    assert report["name"] == "run"
    assert report["data"] == {"rows_train": 1000, "rows_eval": 200, "tokens": 122_640}
    assert report["train"]["steps"] == 66
    assert report["train"]["rejected_steps"] == 1
    assert report["checkpoint"] == {"best_step": 50, "last_step": 50}


def test_a_folder_with_nothing_but_a_recipe(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", "killed")
    for path in (folder.events, folder.lock):
        path.unlink()
    material = Material.read(folder)
    assert material.report["status"] == "stopped"
    assert material.report["checkpoint"] == {"best_step": None, "last_step": None}
    assert (material.rows, material.lock) == ([], {})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"status": ', "report.json: got Expecting value: line 1 column 12"),
        ("[]", "report.json: got JSON of type list; expected a JSON object"),
        ("\xff", "report.json: got 'utf-8' codec can't decode"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str, says: str) -> None:
    folder = fake_run(tmp_path / "run")
    folder.report_json.write_text(content, encoding="latin-1")
    with pytest.raises(CommandError) as caught:
        Material.read(folder)
    assert says in str(caught.value)
    assert "hint: the file was changed or cut" in str(caught.value)
