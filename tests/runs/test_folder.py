"""Run folders: made, moved aside, held by one process, and written durably."""

import json
import math
import os
import resource
import subprocess
import sys

import pytest

from tunesmith.errors import CommandError, MachineError
from tunesmith.runs import writer
from tunesmith.runs.folder import RunFolder, write_json

HOLD = """
import sys
from tunesmith.runs.folder import RunFolder
with RunFolder(__import__("pathlib").Path(sys.argv[1])).hold():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_process():
    """Start a process that holds a run folder until it is closed."""
    running = []

    def start(path):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "held\n"
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def impatient(monkeypatch):
    """Do not wait for a lock."""
    monkeypatch.setattr(writer, "PATIENCE_SECONDS", 0.05)


@pytest.fixture
def run(tmp_path):
    """A folder with a run that has told something."""
    folder, _ = RunFolder.create(tmp_path / "run")
    folder.recipe.write_text("model: {}\n")
    folder.events.write_text('{"event": "started"}\n')
    return folder


def test_names_in_the_folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.name == "run"
    places = {
        folder.recipe: "recipe.yaml",
        folder.lock: "lock.json",
        folder.events: "events.jsonl",
        folder.checkpoints: "checkpoints",
        folder.adapter: "adapter",
        folder.model: "model",
        folder.report_json: "report.json",
        folder.report_md: "report.md",
        folder.report_html: "report.html",
        folder.samples: "samples.json",
        folder.probes: "probes",
    }
    assert {path.relative_to(folder.path).as_posix() for path in places} == set(places.values())
    assert all(path.name == name for path, name in places.items())


def test_a_new_folder_is_made_with_those_above_it(tmp_path):
    folder, aside = RunFolder.create(tmp_path / "a" / "b" / "run")
    assert folder.path.is_dir()
    assert aside is None


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    assert RunFolder.create(tmp_path / "run")[1] is None
    assert not (tmp_path / "run.1").exists()


def test_an_older_run_is_moved_to_the_first_free_name(run, tmp_path):
    (tmp_path / "run.1").mkdir()
    folder, aside = RunFolder.create(run.path)
    assert aside == tmp_path / "run.2"
    assert RunFolder.open(aside).recipe.read_text() == "model: {}\n"
    assert list(folder.path.iterdir()) == []


@pytest.mark.parametrize("name", ["recipe.yaml", "events.jsonl"])
def test_either_file_makes_it_a_run(tmp_path, name):
    path = tmp_path / "run"
    path.mkdir()
    (path / name).touch()
    assert RunFolder.open(path).path == path
    assert RunFolder.create(path)[1] == tmp_path / "run.1"


def test_a_relative_path_stays_relative(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, aside = RunFolder.create("run")
    assert (str(folder.path), str(aside)) == ("run", "run.1")


def test_a_link_goes_on_pointing_to_its_disk(run, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(run.path)
    folder, aside = RunFolder.create(link)
    assert aside == tmp_path / "run.1"
    assert link.is_symlink()
    assert list(folder.path.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["notes.txt"], "it holds notes.txt"),
        (["recipe.yaml", "train.jsonl"], "it holds train.jsonl"),
        (["recipe.yaml", ".git"], "it holds .git"),
        (["lock.json", "a", "b", "c"], "it holds a, b, c"),
    ],
)
def test_a_folder_of_someone_else_is_not_moved(tmp_path, names, text):
    path = tmp_path / "project"
    path.mkdir()
    for name in names:
        (path / name).touch()
    with pytest.raises(CommandError, match=text) as caught:
        RunFolder.create(path)
    assert "output.dir" in caught.value.hint
    assert sorted(entry.name for entry in path.iterdir()) == sorted(names)


def test_the_folder_one_is_in_is_not_moved(run, monkeypatch):
    (run.path / "adapter").mkdir()
    monkeypatch.chdir(run.path / "adapter")
    with pytest.raises(CommandError, match="got the folder you are in"):
        RunFolder.create(run.path)


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(CommandError, match="got a file; expected nothing there"):
        RunFolder.create(tmp_path / "run")
    with pytest.raises(MachineError, match=r"Not a directory|File exists"):
        RunFolder.create(tmp_path / "run" / "below")


def test_opening_what_is_no_run_names_the_runs_nearby(run, tmp_path):
    with pytest.raises(CommandError, match="got no such folder; expected a run folder") as caught:
        RunFolder.open(tmp_path / "rum")
    assert caught.value.hint == f"runs nearby: {run.path}"
    with pytest.raises(CommandError, match="got a folder without a run") as caught:
        RunFolder.open(tmp_path)
    assert str(run.path) in caught.value.hint


def test_opening_with_no_run_near_has_no_hint(tmp_path):
    with pytest.raises(CommandError) as caught:
        RunFolder.open(tmp_path / "rum")
    assert caught.value.hint == ""


def test_a_held_run_is_refused_by_process_id(run, other_process, impatient):
    process = other_process(run.path)
    with (
        pytest.raises(CommandError, match=f"process {process.pid} is writing to") as caught,
        run.hold(),
    ):
        pytest.fail("two processes hold it")
    assert f"kill -INT {process.pid}" in caught.value.hint


def test_a_held_run_is_not_moved_aside(run, other_process, impatient, tmp_path):
    process = other_process(run.path)
    with pytest.raises(CommandError, match=f"process {process.pid} is writing to"):
        RunFolder.create(run.path)
    assert run.events.exists()
    assert not (tmp_path / "run.1").exists()


def test_a_killed_holder_lets_go(run, other_process):
    process = other_process(run.path)
    assert run.holder() == process.pid
    process.kill()
    process.wait()
    assert run.holder() is None
    with run.hold():
        assert run.holder() == os.getpid()
    assert run.holder() is None


def test_one_who_only_looks_does_not_get_in_the_way(run):
    code = (
        "import sys, pathlib; from tunesmith.runs.writer import holder\n"
        "print('looking', flush=True)\n"
        "while True: holder(pathlib.Path(sys.argv[1]))"
    )
    (run.path / ".lock").touch()
    command = [sys.executable, "-c", code, str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as looker:
        assert looker.stdout.readline() == "looking\n"
        try:
            for _ in range(200):
                with run.hold():
                    pass
        finally:
            looker.kill()


def test_holding_twice_in_one_process_is_refused(run, impatient):
    with run.hold(), pytest.raises(CommandError, match=f"process {os.getpid()}"), run.hold():
        pytest.fail("held twice")


def test_an_error_while_holding_lets_go(run):
    with pytest.raises(ZeroDivisionError), run.hold():
        raise ZeroDivisionError
    assert run.holder() is None


def test_a_run_moved_between_opening_and_locking_is_not_held(run, tmp_path, monkeypatch):
    acquired = writer._acquired

    def move_first(file):
        run.path.rename(tmp_path / "run.1")
        return acquired(file)

    monkeypatch.setattr(writer, "_acquired", move_first)
    with pytest.raises(CommandError, match="got a run that is being moved"), run.hold():
        pytest.fail("holds the wrong folder")


def test_holding_a_folder_that_is_not_there_is_an_error(tmp_path):
    with (
        pytest.raises(MachineError, match="No such file or directory"),
        RunFolder(tmp_path / "gone").hold(),
    ):
        pytest.fail("held nothing")


def test_json_is_written_whole(tmp_path):
    path = tmp_path / "report.json"
    write_json(path, {"größe": [1, 2.5, None], "of": (True,)})
    assert json.loads(path.read_text()) == {"größe": [1, 2.5, None], "of": [True]}
    assert "größe" in path.read_text()
    write_json(path, [])
    assert path.read_text() == "[]\n"
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_that_are_not_finite_become_null(tmp_path):
    write_json(tmp_path / "x.json", {"loss": math.nan, "all": [math.inf, (-math.inf, 1)]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"loss": None, "all": [None, [None, 1]]}


def test_a_name_that_is_not_utf8_is_written_as_an_escape(tmp_path):
    write_json(tmp_path / "x.json", {"file": "caf\udce9"})
    assert json.loads((tmp_path / "x.json").read_bytes()) == {"file": "caf\udce9"}


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert path.read_text() == "1\n"


def test_a_disk_that_refuses_is_a_machine_error_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.json"
    write_json(path, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(MachineError, match="File too large") as caught:
            write_json(path, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.exit_code == 4
    assert "5,003 bytes needed" in caught.value.got
    assert "bytes free" in caught.value.got
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "1\n"


def test_a_missing_folder_is_a_machine_error(tmp_path):
    with pytest.raises(MachineError, match="No such file or directory"):
        write_json(tmp_path / "gone" / "x.json", 1)
