"""The commit protocol without faults from outside, and what it refuses."""

import json
import os
import subprocess
import sys

import pytest

from tunesmith.checkpoint.commit import commit
from tunesmith.checkpoint.verify import latest, read_manifest, verify
from tunesmith.errors import CheckpointError, MachineError


def writer(content: str = "content"):
    """A callback that writes two files, one of them in a folder."""

    def write(folder):
        (folder / "state.json").write_text(content)
        (folder / "adapter").mkdir()
        (folder / "adapter" / "weights").write_text(content * 3)

    return write


def names(folder) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def root(tmp_path):
    return tmp_path / "run" / "checkpoints"


@pytest.fixture
def dead_pid() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_checkpoint_holds_its_files_and_a_manifest_that_verifies(root):
    folder = commit(root, 10, writer(), {"score": 0.1, "rows": [1, 2]})
    assert folder == root / "step-10"
    assert names(root) == ["step-10"]
    assert names(folder) == ["MANIFEST.json", "adapter", "state.json"]
    manifest = verify(folder)
    assert (manifest.step, manifest.parent) == (10, None)
    assert manifest.extra == {"score": 0.1, "rows": [1, 2]}
    assert sorted(manifest.files) == ["adapter/weights", "state.json"]
    assert manifest.num_bytes == 7 + 21


def test_the_manifest_is_json_that_says_sizes_and_hashes(root):
    folder = commit(root, 10, writer(), {})
    record = json.loads((folder / "MANIFEST.json").read_text())
    assert record["format"] == 1
    assert record["created"].endswith("Z")
    # printf content | sha256sum
    assert record["files"]["state.json"] == {
        "bytes": 7,
        "sha256": "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73",
    }


def test_the_parent_is_the_highest_step_below(root):
    for step in (10, 30, 20):
        commit(root, step, writer(), {})
    assert [read_manifest(root / f"step-{step}").parent for step in (10, 20, 30)] == [None, 10, 10]


def test_the_same_content_again_keeps_the_checkpoint_that_is_there(root):
    folder = commit(root, 10, writer(), {"score": 1})
    before = (folder.stat().st_ino, (folder / "MANIFEST.json").read_bytes())
    assert commit(root, 10, writer(), {"score": 1}) == folder
    assert (folder.stat().st_ino, (folder / "MANIFEST.json").read_bytes()) == before
    assert names(root) == ["step-10"]


@pytest.mark.parametrize(("content", "extra"), [("other", {}), ("content", {"score": 2})])
def test_other_content_replaces_the_checkpoint(root, content, extra):
    commit(root, 10, writer(), {})
    folder = commit(root, 10, writer(content), extra)
    assert (folder / "state.json").read_text() == content
    assert verify(folder).extra == extra
    assert names(root) == ["step-10"]


def test_a_damaged_checkpoint_in_the_way_goes_to_quarantine(root):
    folder = commit(root, 10, writer(), {})
    (folder / "state.json").write_text("c0ntent")
    commit(root, 10, writer(), {})
    assert verify(folder).step == 10
    assert (root / "quarantine" / "step-10" / "state.json").read_text() == "c0ntent"


def test_an_error_of_the_callback_leaves_nothing(root):
    commit(root, 10, writer(), {})

    def fail(folder):
        (folder / "half").write_text("half")
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        commit(root, 20, fail, {})
    assert names(root) == ["step-10"]


def test_a_missing_file_in_the_callback_is_told_with_its_cause(root):
    def fail(folder):
        (folder / "nowhere" / "file").write_text("")

    with pytest.raises(MachineError, match="No such file or directory") as caught:
        commit(root, 20, fail, {})
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda folder: None, "got no file"),
        (lambda folder: (folder / "MANIFEST.json").write_text(""), "got no file"),
        (lambda folder: (folder / "link").symlink_to("/etc/passwd"), "link: not a regular file"),
        (lambda folder: (folder / "link").symlink_to("/etc"), "link: not a regular file"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe: not a regular file"),
    ],
)
def test_what_cannot_be_vouched_for_is_refused(root, write, text):
    with pytest.raises(CheckpointError, match=text):
        commit(root, 10, write, {})
    assert names(root) == []


def test_a_manifest_written_by_the_callback_is_refused(root):
    def write(folder):
        (folder / "state.json").write_text("")
        (folder / "MANIFEST.json").write_text("{}")

    with pytest.raises(CheckpointError, match=r"got a MANIFEST\.json of its own"):
        commit(root, 10, write, {})


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"files": {}}, "extra key files"),
        ({"score": float("nan")}, "no NaN"),
        ({"score": object()}, "not JSON serializable"),
    ],
)
def test_extra_that_the_manifest_cannot_say_is_refused(root, extra, text):
    with pytest.raises(CheckpointError, match=text):
        commit(root, 10, writer(), extra)
    assert names(root) == []


def test_leftovers_of_dead_processes_go_and_those_of_live_ones_stay(root, dead_pid):
    commit(root, 10, writer(), {})
    live = os.getppid()
    for name in (f".tmp-step-20-{dead_pid}", f".trash-step-5-{dead_pid}", f".tmp-step-20-{live}"):
        (root / name).mkdir()
        (root / name / "file").write_text("")
    commit(root, 20, writer(), {})
    assert names(root) == sorted([f".tmp-step-20-{live}", "step-10", "step-20"])


def test_a_checkpoint_moved_aside_by_a_dead_process_comes_back(root, dead_pid):
    commit(root, 10, writer(), {}).rename(root / f".old-step-10-{dead_pid}")
    assert latest(root).manifest.step == 10
    assert names(root) == ["step-10"]


def test_a_checkpoint_moved_aside_goes_once_its_successor_is_whole(root, dead_pid):
    commit(root, 10, writer("old"), {}).rename(root / "old")
    commit(root, 10, writer("new"), {})
    (root / "old").rename(root / f".old-step-10-{dead_pid}")
    assert (latest(root).manifest.folder / "state.json").read_text() == "new"
    assert names(root) == ["step-10"]


def test_a_checkpoint_moved_aside_comes_back_when_its_successor_is_damaged(root, dead_pid):
    commit(root, 10, writer("old"), {}).rename(root / "old")
    (commit(root, 10, writer("new"), {}) / "state.json").write_text("dmg")
    (root / "old").rename(root / f".old-step-10-{dead_pid}")
    assert (latest(root).manifest.folder / "state.json").read_text() == "old"
    assert names(root) == ["quarantine", "step-10"]


def test_everything_is_on_the_disk_before_it_has_its_name_and_the_name_after(root, monkeypatch):
    commit(root, 10, writer(), {})
    told = []
    really = {"fsync": os.fsync, "rename": os.rename}

    def fsync(file):
        told.append(os.fstat(file).st_ino)
        really["fsync"](file)

    def rename(source, target):
        told.append("renamed")
        really["rename"](source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    folder = commit(root, 20, writer(), {})
    before, after = told[: told.index("renamed")], told[told.index("renamed") + 1 :]
    parts = [folder, *folder.rglob("*")]
    assert set(before) == {part.stat().st_ino for part in parts}
    assert after == [root.stat().st_ino]
    # The manifest, which makes it a checkpoint, goes after all it speaks of.
    files = [part for part in parts if part.is_file()]
    order = sorted(files, key=lambda part: before.index(part.stat().st_ino))
    assert order[-1].name == "MANIFEST.json"
