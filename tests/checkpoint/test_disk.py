"""Saving on a disk that refuses: really full, read-only, or limited."""

import resource
import subprocess

import pytest
import torch

from tests.tmpfs import tmpfs
from tunesmith.checkpoint.commit import commit
from tunesmith.checkpoint.state import read_state, write_state
from tunesmith.checkpoint.verify import latest
from tunesmith.errors import MachineError


def save(root, step: int, num_values: int):
    """A checkpoint of four bytes a value."""
    tensors = {"weight": torch.full((num_values,), float(step))}
    return commit(root, step, lambda folder: write_state(folder, tensors, {}), {})


def write_plain(folder):
    """A file of 2 MiB without any library."""
    (folder / "big").write_bytes(b"x" * 2**21)


def check_older_is_whole(root, step: int):
    assert sorted(entry.name for entry in root.iterdir()) == [f"step-{step}"]
    assert latest(root).manifest.step == step
    assert (read_state(root / f"step-{step}")[0]["weight"] == step).all()


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 1 MiB."""
    with tmpfs(tmp_path / "disk", "size=1m,nr_inodes=64") as place:
        yield place


def test_a_full_disk_is_a_machine_error_that_tells_the_room(tiny_disk):
    root = tiny_disk / "checkpoints"
    save(root, 10, 150_000)
    with pytest.raises(MachineError, match="No space left on device") as caught:
        save(root, 20, 150_000)
    error = caught.value
    assert error.exit_code == 4
    assert str(root / "step-20") in str(error)
    assert "bytes needed" in error.got
    needed = int(error.got.split("(")[1].split(" bytes needed")[0].replace(",", ""))
    free = int(error.got.split("needed, ")[1].split(" bytes free")[0].replace(",", ""))
    assert free < 600_000 <= needed
    assert "make room" in error.hint
    check_older_is_whole(root, 10)


def test_a_full_disk_is_told_when_plain_files_are_written(tiny_disk):
    root = tiny_disk / "checkpoints"
    save(root, 10, 10)
    with pytest.raises(MachineError, match="No space left on device"):
        commit(root, 20, write_plain, {})
    check_older_is_whole(root, 10)


def test_a_save_fits_again_once_there_is_room(tiny_disk):
    root = tiny_disk / "checkpoints"
    save(root, 10, 10)
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(b"x" * 900_000)
    with pytest.raises(MachineError):
        save(root, 20, 100_000)
    ballast.unlink()
    save(root, 20, 100_000)
    assert latest(root).manifest.step == 20


def test_a_disk_without_file_entries_says_so(tiny_disk):
    root = tiny_disk / "checkpoints"
    save(root, 10, 10)

    def write_many(folder):
        for number in range(100):
            (folder / str(number)).touch()

    with pytest.raises(MachineError, match="No space left on device"):
        commit(root, 20, write_many, {})
    check_older_is_whole(root, 10)


def test_a_read_only_disk_is_a_machine_error(tiny_disk):
    root = tiny_disk / "checkpoints"
    save(root, 10, 10)
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(MachineError, match="Read-only file system") as caught:
        save(root, 20, 10)
    assert "writable" in caught.value.hint
    check_older_is_whole(root, 10)


def test_a_damaged_newest_on_a_read_only_disk_is_passed_over(tiny_disk):
    root = tiny_disk / "checkpoints"
    save(root, 10, 10)
    (save(root, 20, 10) / "state.json").write_text("")
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    found = latest(root)
    assert found.manifest.step == 10
    assert found.quarantined[0][0] == root / "step-20"


@pytest.mark.parametrize("limit", [0, 100, 4096, 100_000])
def test_a_limit_on_file_size_is_a_machine_error(tmp_path, limit):
    root = tmp_path / "checkpoints"
    save(root, 10, 10)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(MachineError, match="File too large") as caught:
            save(root, 20, 50_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "bytes needed" in caught.value.got
    check_older_is_whole(root, 10)
