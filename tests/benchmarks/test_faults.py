"""The fault benchmark: it finds what a careless system does, and nothing in ours."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import faults
from benchmarks.fault_lab import ANSWER, made_with
from benchmarks.fault_table import count, insert, markdown
from benchmarks.faults import Store


class Asked:
    """The careless system in a process of its own."""

    def __init__(self, folder: Path) -> None:
        script = Path(__file__).parent / "careless.py"
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, fault: str, index: int = 0) -> dict:
        self.process.stdin.write(json.dumps({"fault": fault, "index": index}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline().removeprefix(ANSWER))


@pytest.fixture(scope="module")
def careless(tmp_path_factory):
    asked = Asked(tmp_path_factory.mktemp("careless"))
    yield asked
    asked.process.kill()
    asked.process.communicate()


@pytest.mark.parametrize("fault", ["flip", "truncate"])
def test_bytes_that_are_believed_are_silently_wrong(careless, fault):
    for index in range(4):
        found = careless(fault, index)
        assert found["resumable"], found
        assert not found["equal"], found
        assert found["silent"], found
        assert not found["detected"], found


def test_weights_that_are_not_finite_are_silently_wrong(careless):
    found = careless("nan", 3)
    assert found["silent"]
    assert found["finite"] is False


def test_a_newest_checkpoint_deleted_by_the_clock_is_silently_wrong(careless):
    found = careless("clock", 0)
    assert found["newest_kept"] is False
    assert found["resumed"] == found["newest"] - 2
    assert found["equal"], "the steps are done again: what is lost is work"
    assert found["silent"]


def test_kills_fall_inside_saves_and_leave_half_checkpoints(careless):
    found = [careless("kill", index) for index in range(12)]
    assert all(trial["resumable"] for trial in found)
    assert sum(trial["silent"] for trial in found) >= 4, "no kill left a half checkpoint"
    assert len({trial["step"] for trial in found}) > 1


def test_a_full_disk_that_fails_the_run_is_detected(careless):
    found = careless("disk", 0)
    if "refused" in found:
        pytest.skip(found["refused"])
    assert "No space left" in found["at_full_disk"]
    assert found["detected"]
    assert not found["waited"]


def trial(**changes) -> dict:
    known = {"system": "trl", "fault": "flip", "index": 0, "resumable": True, "equal": True}
    return {**known, "detected": False, "silent": False, "errors": [], "said": [], **changes}


def test_the_table_counts():
    refused = {"system": "tunesmith", "fault": "disk", "index": 0, "refused": "no tmpfs"}
    error = "OSError: 'RUNS/trial/x' has 12 bytes | 13\nmore"
    result = {
        "machine": {"processor": "p", "cores": 1, "memory_gib": 1, "system": "s", "python": "3"},
        "systems": {"trl": {"versions": {"trl": "1"}, "span_seconds": 0.01}},
        "trials": [
            trial(),
            trial(index=1, detected=True, resumable=False, equal=False, errors=[error]),
            trial(index=2, equal=False, silent=True, file="optimizer.pt"),
            trial(fault="nan", equal=None, silent=True, finite=False),
            refused,
        ],
    }
    rows = count(result)
    page = markdown(result, rows)
    flip = "one bit flipped in the newest checkpoint"
    assert f"| {flip} | TRL SFTTrainer | 2/3 | 1/3 | 1/3 | 1/3 |" in page
    assert f"- {flip}, TRL SFTTrainer: 1 x OSError: PATH has # bytes / #" in page
    assert "1 x finished with other bits after a change in optimizer.pt" in page
    assert "| NaN loss at one step | TRL SFTTrainer | 1/1 | – | 0/1 | 1/1 |" in page  # noqa: RUF001
    assert "| disk full during a save | Tunesmith | no trial: no tmpfs |" in page


def test_results_of_other_versions_are_dropped_and_others_kept(tmp_path):
    store = Store(tmp_path / "faults.json")
    for system in ("trl", "tunesmith"):
        store.begin(system, {"made_with": "a"})
        store.add(trial(system=system))
    again = Store(tmp_path / "faults.json")
    assert again.missing("tunesmith", "a", [("flip", 0), ("flip", 1)]) == [("flip", 1)]
    assert again.missing("tunesmith", "b", [("flip", 0)]) == [("flip", 0)]
    again.begin("tunesmith", {"made_with": "b"})
    assert [kept["system"] for kept in again.result["trials"]] == ["trl"]


def test_what_decides_a_result_is_known():
    assert len({made_with(system) for system in ("trl", "hf-trainer", "tunesmith")}) == 3


def test_tunesmith_survives_kills_and_flips(tmp_path, capsys):
    out = tmp_path / "faults.json"
    numbers = ["--kills", "3", "--flips", "5", "--faults", "kill", "flip"]
    call = ["--systems", "tunesmith", *numbers, "--work", str(tmp_path), "--out", str(out)]
    assert faults.main(call) == 0
    trials = json.loads(out.read_text())["trials"]
    assert len(trials) == 8
    for found in trials:
        assert found["resumable"], found
        assert found["equal"], found
        assert not found["silent"], found
        assert found["fault"] == "kill" or found["detected"], found
    assert "Tunesmith" in capsys.readouterr().out


def test_the_table_is_put_between_the_marks_of_a_page():
    rows = count({"trials": [trial()]})
    page = insert("# Page\n\n<!-- table -->\nold\n<!-- end of table -->\n\nMore.\n", rows)
    assert page.startswith("# Page\n\n<!-- table -->\n\n| fault | system |")
    assert page.endswith("\n\n<!-- end of table -->\n\nMore.\n")
    assert "old" not in page
    assert insert(page, rows) == page
